"""What `cake bench` measured: speed, memory, phases of time, and how near the machine's limits they come.

A picture shows the rows that agree in all that is on no axis and in no legend; of several such sets the one with most
to show, of equals that of the longest prompt, and its title says which. Points and bars are means over repetitions,
with their standard deviation.
"""
import os
import statistics
from collections import defaultdict

from plots.style import COLOURS, HATCHES, keeps_less, log_ticks, look, policy_label

# ---- rows ------------------------------------------------------------------------------------------------------------
def number(row: dict, path: str):
    """`decode.tokens_per_s` of a row; None where it is not there."""
    for key in path.split("."):
        row = row.get(key) if isinstance(row, dict) else None
    return row if isinstance(row, (int, float)) and not isinstance(row, bool) else None


AXES = {
    "model": lambda row: os.path.basename(str(row.get("model", {}).get("path", "")).rstrip("/")),
    "device": lambda row: str(row.get("machine", {}).get("device", "")),
    "backend": lambda row: str(row.get("machine", {}).get("backend", "")),
    "ranks": lambda row: int(number(row, "machine.ranks") or 1),
    "policy": lambda row: (str(row.get("policy")), int(number(row, "cache_size") or 0), row.get("cascade", True)),
    "prompt": lambda row: int(number(row, "prompt_tokens") or 0),
    "batch": lambda row: int(number(row, "batch") or 1),
}


def label(policy: tuple) -> str:
    name, cache_size, cascade = policy
    return policy_label(name, cache_size) + ("" if cascade or not keeps_less(name, cache_size) else ", no cascade")


def means(rows: list, axes: list, quantity: str) -> dict:
    """{values of the axes: (mean, standard deviation)} of a quantity over repetitions."""
    values = defaultdict(list)
    for row in rows:
        value = number(row, quantity)
        if value is not None:
            values[tuple(AXES[a](row) for a in axes)].append(value)
    return {key: (statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else 0.0) for key, v in values.items()}


def largest_set(rows: list, free: list, quantity: str) -> tuple:
    """Rows that agree in all axes but the free ones: those with most cells, of equals the longest prompt's. A title."""
    fixed = [a for a in AXES if a not in free]
    sets = defaultdict(list)
    for row in rows:
        if number(row, quantity) is not None:
            sets[tuple(AXES[a](row) for a in fixed)].append(row)
    if not sets:
        return [], ""
    longest_first = sorted(sets, key=lambda key: [-v if a == "prompt" else v for a, v in zip(fixed, key)])
    chosen = max(longest_first, key=lambda key: len({tuple(AXES[a](row) for a in free) for row in sets[key]}))
    words = dict(zip(fixed, chosen))
    parts = [words.get("model"), words.get("device"), words.get("backend")]
    parts += [f"{words['ranks']} rank" + "s" * (words["ranks"] > 1)] if "ranks" in words else []
    parts += [f"{words['prompt']:,} tokens"] if "prompt" in words else []
    parts += [f"batch {words['batch']}"] if "batch" in words else []
    parts += [label(words["policy"])] if "policy" in words else []
    return sets[chosen], ", ".join(p for p in parts if p)


# ---- pictures: each returns a figure, or a text that says what it lacks ----------------------------------------------
def draw_lines(axis, points: dict, x_name: str, suffix: str = "", first: int = 0) -> int:
    """Lines over the first of two axes, one for each value of the second. Returns how many."""
    series = defaultdict(list)
    for (x, who), (mean, deviation) in sorted(points.items()):
        series[who].append((x, mean, deviation))
    for i, (who, line) in enumerate(series.items(), first):
        xs, ys, deviations = zip(*line)
        axis.errorbar(xs, ys, deviations, label=label(who) + suffix, capsize=3, **look(i))
    log_ticks(axis, (x for x, _ in points))
    axis.set_xlabel(x_name)
    axis.grid(alpha=0.3)
    return len(series)


def by_axis(plt, rows, axis_name, x_name, quantities, y_name, scale=1.0):
    chosen, title = largest_set(rows, [axis_name, "policy"], quantities[0][0])
    if len({AXES[axis_name](row) for row in chosen}) < 2:
        return f"it needs rows of two values of {x_name} or more"
    figure, axis = plt.subplots(figsize=(7, 4.5))
    count = 0
    for quantity, suffix in quantities:
        points = {key: (m * scale, d * scale) for key, (m, d) in means(chosen, [axis_name, "policy"], quantity).items()}
        count += draw_lines(axis, points, x_name, suffix, count)
    axis.set_ylabel(y_name)
    axis.set_ylim(bottom=0)
    axis.set_title(title, fontsize=9)
    axis.legend(fontsize=8)
    return figure


PROMPT = "prompt, tokens"


def decode_by_prompt(plt, rows):
    return by_axis(plt, rows, "prompt", PROMPT, [("decode.tokens_per_s", "")], "decoding, tokens/s")


def prefill_by_prompt(plt, rows):
    return by_axis(plt, rows, "prompt", PROMPT, [("prefill.tokens_per_s", "")], "prefill, tokens/s")


def kv_by_prompt(plt, rows):
    quantities = [("kv.peak_bytes", ", peak"), ("kv.kept_bytes", ", kept")]
    return by_axis(plt, rows, "prompt", PROMPT, quantities, "KV cache, MiB", 2.0 ** -20)


def decode_by_batch(plt, rows):
    return by_axis(plt, rows, "batch", "batch, sequences", [("decode.tokens_per_s", "")],
                   "decoding, tokens/s of the batch")


def scaling(plt, rows):
    chosen, title = largest_set(rows, ["ranks", "policy"], "decode.tokens_per_s")
    ranks = sorted({AXES["ranks"](row) for row in chosen})
    if len(ranks) < 2:
        return "it needs rows of two numbers of ranks or more"
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5))
    for axis, what in zip(axes, ("prefill", "decode")):
        points = means(chosen, ["ranks", "policy"], f"{what}.tokens_per_s")
        draw_lines(axis, points, "ranks")
        first = max((m for (r, _), (m, _) in points.items() if r == ranks[0]), default=0)
        axis.plot(ranks, [first * r / ranks[0] for r in ranks], color="0.6", linewidth=1, label="in proportion")
        axis.set_ylabel(f"{what}, tokens/s")
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def phases(plt, rows):
    chosen, title = largest_set(rows, ["policy"], "prefill.s")
    names = ["linear", "attention", "observe", "evict", "all_reduce", "replay", "sampling", "other"]
    policies = sorted({AXES["policy"](row) for row in chosen})
    if not any(means(chosen, ["policy"], f"prefill.{name}_s") for name in names):
        return "it needs rows with times by phase"
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5))
    for axis, what in zip(axes, ("prefill", "decode")):
        bottom = [0.0] * len(policies)
        for i, name in enumerate(names):
            found = means(chosen, ["policy"], f"{what}.{name}_s")
            if not found:
                continue
            heights = [found.get((p,), (0, 0))[0] for p in policies]
            axis.bar(range(len(policies)), heights, bottom=bottom, label=name.replace("_", " "), edgecolor="black",
                     color=COLOURS[-1 - i % len(COLOURS)], hatch=HATCHES[i % len(HATCHES)])
            bottom = [b + h for b, h in zip(bottom, heights)]
        total = means(chosen, ["policy"], f"{what}.s")
        axis.errorbar(range(len(policies)), bottom, [total.get((p,), (0, 0))[1] for p in policies], fmt="none",
                      ecolor="black", capsize=3)
        axis.set_xticks(range(len(policies)), [label(p) for p in policies], rotation=30, ha="right", fontsize=8)
        axis.set_ylabel(f"{what}, s")
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))  # decoding has all phases
    figure.suptitle(title, fontsize=9)
    return figure


def roofline(plt, rows):
    parts = [("prefill.percent_of_gemm", "prefill, % of the GEMM rate"),
             ("decode.percent_of_bandwidth", "decoding, % of the bandwidth")]
    chosen, title = largest_set(rows, ["policy", "prompt"], parts[0][0])
    if not chosen:
        return "it needs rows with percent_of_gemm and percent_of_bandwidth"
    prompts = sorted({AXES["prompt"](row) for row in chosen})
    policies = sorted({AXES["policy"](row) for row in chosen})
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5))
    for axis, (quantity, name) in zip(axes, parts):
        found = means(chosen, ["prompt", "policy"], quantity)
        width = 0.8 / len(policies)
        for i, policy in enumerate(policies):
            bars = [(x, *found[(p, policy)]) for x, p in enumerate(prompts) if (p, policy) in found]
            axis.bar([x + (i - (len(policies) - 1) / 2) * width for x, _, _ in bars], [m for _, m, _ in bars], width,
                     yerr=[d for _, _, d in bars], capsize=3, label=label(policy), edgecolor="black",
                     color=COLOURS[-1 - i % len(COLOURS)], hatch=HATCHES[i % len(HATCHES)])
        axis.axhline(100, color="black", linewidth=1, linestyle="--")
        axis.set_xticks(range(len(prompts)), [f"{p:,}" for p in prompts])
        axis.set_xlabel(PROMPT)
        axis.set_ylabel(name)
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(title, fontsize=9)
    return figure


PICTURES = [decode_by_prompt, prefill_by_prompt, kv_by_prompt, decode_by_batch, scaling, phases, roofline]
