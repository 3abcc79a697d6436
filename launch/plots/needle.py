"""Which facts were found in a haystack, from needle.csv of `cake eval needle`."""
from plots.style import GREYS, log_ticks, look, panels, plain, policy_label


def panel_names(rows: list) -> list:
    """[(policy, cache size, needles)] in the file's order."""
    return list(dict.fromkeys((row["policy"], row["cache_size"], row["needles"]) for row in rows))


def heat_map(plt, rows, form: str):
    """A panel for each policy, cache size and number of facts."""
    rows = [row for row in rows if row["form"] == form and row["depth"] is not None]
    if not rows:
        return f"it needs rows of form {form} with a depth"
    lengths = sorted({row["length"] for row in rows})
    depths = sorted({row["depth"] for row in rows})
    names = panel_names(rows)
    figure, axes = panels(plt, len(names), 1.3 + 0.55 * max(4, len(lengths)), 1.3 + 0.4 * max(4, len(depths)))
    for axis, name in zip(axes, names):
        scores = {(row["depth"], row["length"]): 100 * row["score"] for row in rows
                  if (row["policy"], row["cache_size"], row["needles"]) == name}
        cells = [[scores.get((depth, length), float("nan")) for length in lengths] for depth in depths]
        axis.set_facecolor("white")
        axis.patch.set(hatch="///", edgecolor="0.6")  # shows where nothing was measured
        image = axis.imshow(cells, aspect="auto", interpolation="nearest", cmap=GREYS, vmin=0, vmax=100)
        for (depth, length), score in scores.items():
            axis.text(lengths.index(length), depths.index(depth), f"{score:.0f}", ha="center", va="center",
                      fontsize=7, color="white" if score > 50 else "black")
        axis.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths], rotation=45, ha="right", fontsize=7)
        axis.set_yticks(range(len(depths)), [f"{depth:g}" for depth in depths], fontsize=7)
        axis.set_xlabel("prompt, tokens")
        axis.set_ylabel("depth, %")
        policy, size, needles = name
        facts = f"\n{needles} facts" if form == "multi" else ""
        axis.set_title(plain(policy_label(policy, size), 60) + facts, fontsize=9)
    figure.colorbar(image, ax=axes, label="found, %")
    return figure


def needle_single(plt, rows):
    return heat_map(plt, rows, "single")


def needle_multi(plt, rows):
    return heat_map(plt, rows, "multi")


def needle_kv(plt, rows):
    return heat_map(plt, rows, "kv")


def needle_by_length(plt, rows):
    rows = [row for row in rows if row["depth"] is None]
    if not rows:
        return "it needs rows without a depth, as of a data file"
    figure, axis = plt.subplots(figsize=(7.5, 4.5))
    curves = list(dict.fromkeys((*name, row["form"]) for row in rows for name in panel_names([row])))
    for i, curve in enumerate(curves):
        policy, size, needles, form = curve
        points = sorted((row["length"], 100 * row["score"]) for row in rows
                        if (row["policy"], row["cache_size"], row["needles"], row["form"]) == curve)
        label = policy_label(policy, size) + (f", {form}, {needles} facts" if len({c[2:] for c in curves}) > 1 else "")
        axis.plot(*zip(*points), label=plain(label, 60), **look(i))
    log_ticks(axis, (row["length"] for row in rows))
    axis.set_ylim(-3, 103)
    axis.set_xlabel("prompt, tokens")
    axis.set_ylabel("found, %")
    axis.set_title(", ".join(sorted({row["form"] for row in rows})), fontsize=9)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


PICTURES = [needle_single, needle_multi, needle_kv, needle_by_length]
