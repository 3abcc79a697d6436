"""LongBench's scores against the cache size, from NAME/result.json of `cake score`, NAME as snapkv-256 or full."""
import re
from collections import defaultdict
from statistics import fmean

from plots.style import left_out, log_ticks, look, plain

PICTURE = "score_by_cache"


def cells(results: list) -> dict:
    """{(policy, cache size): {task: score}}; None for the size of full."""
    out = {}
    for result in results:
        name = result["name"]
        sized = re.fullmatch(r"(.+)-(\d+)", name)
        if any(isinstance(score, dict) for score in result["tasks"].values()):
            left_out(PICTURE, f"{name}: scores by length (LongBench-E)")
        elif name == "full":
            out["full", None] = result["tasks"]
        elif sized and int(sized[2]) > 0:
            out[sized[1], int(sized[2])] = result["tasks"]
        else:
            left_out(PICTURE, f"{name}: the folder's name is no policy and cache size, as snapkv-256, and not full")
    return out


def score_by_cache(plt, results):
    found = cells(results)
    if not any(size for _, size in found):
        return "it needs result.json in folders named by policy and cache size, as snapkv-256"
    tasks = set.intersection(*(set(scores) for scores in found.values()))
    if not tasks:
        return "it needs a task that all folders have scores of"
    if others := set().union(*found.values()) - tasks:
        left_out(PICTURE, f"tasks that not all folders have: {', '.join(sorted(others))}")
    curves = defaultdict(list)
    for (policy, size), scores in found.items():
        curves[policy].append((size, fmean(scores[task] for task in tasks)))
    figure, axis = plt.subplots(figsize=(7.5, 4.5))
    full = curves.pop("full", None)
    for i, (policy, points) in enumerate(curves.items()):
        axis.plot(*zip(*sorted(points)), label=plain(policy), **look(i))
    if full:
        axis.axhline(full[0][1], color="black", linewidth=1, label="full")
    log_ticks(axis, (size for points in curves.values() for size, _ in points))
    axis.set_xlabel("cache size, tokens a layer")
    axis.set_ylabel("LongBench score, 0 to 100")
    axis.set_title(f"mean of {len(tasks)} tasks" if len(tasks) > 3 else ", ".join(sorted(tasks)), fontsize=9)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


PICTURES = [score_by_cache]
