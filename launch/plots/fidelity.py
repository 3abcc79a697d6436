"""How far a policy is from the full cache, from the files of `cake eval fidelity`: means over texts."""
from collections import defaultdict
from statistics import fmean

from plots.style import keeps_less, left_out, log_scale, log_ticks, look, plain

KL = "KL from the full cache, nats"


def of_common_texts(rows: list, picture: str) -> tuple:
    """Rows that keep less than everything, of the texts that every policy and cache size has; how many texts."""
    rows = [row for row in rows if keeps_less(row["policy"], row["cache_size"])]
    texts = defaultdict(set)
    for row in rows:
        texts[row["policy"], row["cache_size"]].add(row["text"])
    common = set.intersection(*texts.values()) if texts else set()
    missing = set().union(*texts.values()) - common
    if common and missing:
        left_out(picture, f"texts that not all policies and cache sizes have: {', '.join(sorted(missing))}")
    return [row for row in rows if row["text"] in common], len(common)


def means(rows: list, axes: list, quantity: str) -> dict:
    """{values of the axes: mean of the quantity over texts}."""
    values = defaultdict(list)
    for row in rows:
        values[tuple(row[name] for name in axes)].append(row[quantity])
    return {key: fmean(some) for key, some in values.items()}


def about(texts: int) -> str:
    return f"mean of {texts} texts" if texts > 1 else "one text"


def finish(axis, x_name: str, y_name: str, title: str) -> None:
    axis.set_xlabel(x_name)
    axis.set_ylabel(y_name)
    axis.set_title(title, fontsize=9)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


# ---- against the size of the cache -----------------------------------------------------------------------------------
def kl_by(plt, rows, picture: str, x: str, x_name: str, set_scale):
    rows, texts = of_common_texts(rows, picture)
    kl = means(rows, ["policy", "cache_size"], "kl_mean")
    at = means(rows, ["policy", "cache_size"], x)
    drawn = [key for key in kl if kl[key] > 0 and at[key] > 0]
    if not drawn:
        return "it needs a text that all policies and cache sizes have, and a KL above 0"
    if len(drawn) < len(kl):
        left_out(picture, f"{len(kl) - len(drawn)} points whose KL is not above 0: no logarithmic axis has them")
    figure, axis = plt.subplots(figsize=(7.5, 4.5))
    for i, policy in enumerate(dict.fromkeys(policy for policy, _ in drawn)):
        points = sorted((at[key], kl[key]) for key in drawn if key[0] == policy)
        axis.plot(*zip(*points), label=plain(policy), **look(i))
    log_scale(axis, "y", [kl[key] for key in drawn])
    set_scale(axis, [at[key] for key in drawn])
    finish(axis, x_name, KL, about(texts))
    return figure


def kl_by_kept(plt, rows):
    return kl_by(plt, rows, "kl_by_kept", "kept_percent", "tokens kept, % of the prompt",
                 lambda axis, parts: log_scale(axis, "x", parts))


def kl_by_cache(plt, rows):
    return kl_by(plt, rows, "kl_by_cache", "cache_size", "cache size, tokens a layer",
                 lambda axis, sizes: log_ticks(axis, (round(size) for size in sizes)))


# ---- at one cache size -----------------------------------------------------------------------------------------------
def one_cache_size(rows: list) -> list:
    """Rows of the cache size that most policies have, of equals the smallest, where they differ most."""
    policies = defaultdict(set)
    for row in rows:
        if keeps_less(row["policy"], row["cache_size"]):
            policies[row["cache_size"]].add(row["policy"])
    if not policies:
        return []
    chosen = max(sorted(policies), key=lambda size: len(policies[size]))
    return [row for row in rows if row["cache_size"] == chosen]


def running_mean(values: list, width: int) -> list:
    """Over `width` neighbours, of which half lie on each side; fewer at the ends."""
    half = width // 2
    return [fmean(values[max(0, i - half):i + half + 1]) for i in range(len(values))]


def curves(plt, rows, picture: str, x: str, quantity: str, smooth: bool = False):
    """Axes with a curve for each policy, and what they show; a text where there is nothing to show."""
    rows, texts = of_common_texts(one_cache_size(rows), picture)
    if not rows:
        return None, "it needs a text that all policies of one cache size have"
    ends = defaultdict(int)
    for row in rows:
        ends[row["policy"], row["text"]] = max(ends[row["policy"], row["text"]], row[x])
    last = min(ends.values())  # behind it some text has ended, and the mean would be of others
    points = means([row for row in rows if row[x] <= last], ["policy", x], quantity)
    width = 1 + 2 * (last // 32) if smooth else 1
    _, axis = plt.subplots(figsize=(7.5, 4.5))
    for i, policy in enumerate(dict.fromkeys(policy for policy, _ in points)):
        xs, ys = zip(*sorted((at, value) for (who, at), value in points.items() if who == policy))
        axis.plot(xs, running_mean(ys, width), label=plain(policy), markersize=4, markevery=max(1, len(xs) // 12),
                  **look(i))
    smoothed = f", running mean over {width} positions" if width > 1 else ""
    return axis, f"C = {rows[0]['cache_size']:,}, {about(texts)}{smoothed}"


def kl_by_position(plt, rows):
    axis, said = curves(plt, rows, "kl_by_position", "position", "kl", smooth=True)
    if not axis:
        return said
    log_scale(axis, "y", [y for line in axis.lines for y in line.get_ydata()])
    finish(axis, "position after the cut, tokens", KL, said)
    return axis.figure


def error_by_layer(plt, rows):
    axis, said = curves(plt, rows, "error_by_layer", "layer", "attention_error")
    if not axis:
        return said
    axis.set_ylim(bottom=0)
    finish(axis, "layer", "error of the attention's output, part of its norm", said)
    return axis.figure


PICTURES = {"fidelity": [kl_by_kept, kl_by_cache], "positions": [kl_by_position], "layers": [error_by_layer]}
