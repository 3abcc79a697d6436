"""Which positions of a prompt each layer kept, from what --dump-kept wrote. A panel for each file."""
from plots.style import GREYS, left_out, panels, plain

BINS = 400  # columns of a panel; a longer prompt has several positions in each


def shares(layers: list, length: int) -> tuple:
    """[layers, columns], the part of the KV heads that kept a position, a mean over a column; positions a column."""
    import numpy
    width = -(-length // BINS)
    columns = -(-length // width)
    positions = numpy.minimum(width, length - width * numpy.arange(columns))  # the last column may have fewer
    rows = []
    for heads in layers:
        kept = numpy.concatenate([numpy.asarray(head, dtype=numpy.int64) for head in heads])
        rows.append(numpy.bincount(kept // width, minlength=columns) / (len(heads) * positions))
    return numpy.array(rows), width


def kept(plt, requests):
    from matplotlib.colors import PowerNorm
    first = list({request["source"]: request for request in reversed(requests)}.values())[::-1]
    if len(first) < len(requests):
        left_out("kept", f"{len(requests) - len(first)} prompts: it shows the first one of a file")
    figure, axes = panels(plt, len(first), 9, 3.6, columns=1)
    shade = PowerNorm(0.5, vmin=0, vmax=1)  # of a long prompt a hundredth is kept, and should be seen
    for axis, request in zip(axes, first):
        length = 1 + max(position for heads in request["layers"] for head in heads for position in head)
        parts, width = shares(request["layers"], length)
        image = axis.imshow(parts, aspect="auto", origin="lower", interpolation="nearest", cmap=GREYS, norm=shade,
                            extent=(0, parts.shape[1] * width, -0.5, len(parts) - 0.5))
        each = "" if width == 1 else f", {width} to a column"
        axis.set_xlabel(f"position, tokens{each}")
        axis.set_ylabel("layer")
        axis.set_title(f"{plain(request['source'])}, prompt {plain(request['id'])}, {length:,} tokens", fontsize=9)
    figure.colorbar(image, ax=axes, label="part of the KV heads that kept it", ticks=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1])
    return figure


PICTURES = [kept]
