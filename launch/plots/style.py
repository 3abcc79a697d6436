"""How pictures look, in black and white too: curves differ in marker and line, bars in hatch, heat maps are grey."""
import os
import sys

DEBIAN = "/usr/bin/python3"  # the one that setup.sh installs matplotlib for; another may come first in PATH

COLOURS = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#0072B2", "#CC79A7", "#999999"]  # of Okabe and Ito
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*", "<", "h", ">"]
LINES = ["-", "--", "-.", ":"]
HATCHES = ["", "///", "...", "xxx", "\\\\\\", "+++", "ooo", "---"]
GREYS = "Greys"  # dark is much


def give_up(message: str) -> None:
    print(f"plot: {message}", file=sys.stderr)
    sys.exit(2)


def left_out(what: str, why: str) -> None:
    print(f"left out: {what}: {why}")


def import_matplotlib():
    try:
        import matplotlib
    except ImportError:
        if os.path.realpath(sys.executable) != os.path.realpath(DEBIAN) and os.access(DEBIAN, os.X_OK):
            os.execv(DEBIAN, [DEBIAN, *sys.argv])
        give_up("matplotlib is missing: launch/setup.sh python3-matplotlib installs it")
    matplotlib.use("Agg")
    matplotlib.rcParams["figure.constrained_layout.use"] = True
    from matplotlib import pyplot
    return pyplot


def look(i: int) -> dict:
    """Colour, marker and line of the i-th curve; those behind the eighth have other markers and lines."""
    return {"color": COLOURS[i % 8], "marker": MARKERS[i % len(MARKERS)], "linestyle": LINES[(i + i // 8) % 4]}


def keeps_less(policy: str, cache_size: int) -> bool:
    return policy != "full" and cache_size != 0


def policy_label(policy: str, cache_size: int) -> str:
    return f"{policy}, C = {cache_size:,}" if keeps_less(policy, cache_size) else policy


def plain(name: str, most: int = 40) -> str:
    """A name out of a file as matplotlib prints it: a dollar would begin a formula. Its end is what tells ids apart."""
    name = name if len(name) <= most else "..." + name[3 - most:]
    return name.replace("$", r"\$")


def panels(plt, count: int, width: float, height: float, columns: int = 4) -> tuple:
    """A figure of `count` equal panels, inches each, in rows of at most `columns`; its axes in reading order."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    axes = list(grid.flat)
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def log_scale(axis, which: str, values) -> None:
    """A logarithmic axis ("x" or "y") whose numbers are written out, also where it spans less than a power of ten."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
    (axis.set_xscale if which == "x" else axis.set_yscale)("log", nonpositive="mask")
    positive = [value for value in values if value > 0]
    span = max(positive) / min(positive) if positive else 1
    along = axis.xaxis if which == "x" else axis.yaxis
    along.set_major_locator(MaxNLocator(5) if span < 4 else LogLocator(subs=(1, 2, 3, 5) if span < 1e3 else (1,),
                                                                       numticks=20))
    along.set_major_formatter("{x:g}")
    along.set_minor_formatter(NullFormatter())


def log_ticks(axis, values) -> None:
    """A logarithmic x axis with the values that were measured written out."""
    ticks = sorted(set(values))
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [f"{x:,}" for x in ticks], rotation=45 if len(ticks) > 8 else 0)
    axis.minorticks_off()
