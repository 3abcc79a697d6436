#!/usr/bin/env python3
"""Draws what `cake` measured, from the files that its commands write. What a file is, is told by its content.

usage: launch/plot.py FILE... --output DIR [--format png|svg] [--cache-size C]

 bench.jsonl of `cake bench`
  decode_by_prompt     decoding, tokens/s, against the prompt's length, a line for each policy and cache size
  prefill_by_prompt    prefill, the same
  kv_by_prompt         bytes of the KV cache: at its peak in prefill, and kept
  decode_by_batch      decoding, tokens/s of the whole batch, against the batch
  scaling              prefill and decoding against the number of ranks
  phases               where the time of a prefill and of a decode step goes
  roofline             percent of the machine's GEMM rate in prefill, of its bandwidth in decoding

 reports of `generate` and `batch --layers`; what `generate --dump-kept` wrote
  budgets              tokens that each layer keeps, layers x prompts
  preference_by_layer  how strongly each layer asks for them; of more than 8 prompts the mean, and most and least
  kept                 positions that each layer kept of a prompt; shade: part of the KV heads

 fidelity.csv, positions.csv, layers.csv of `cake eval fidelity`; means over texts
  kl_by_kept           KL from the full cache against the part of the tokens that is kept, a curve a policy
  kl_by_cache          the same against the cache size
  kl_by_position       KL against the position after the cut, at one cache size
  error_by_layer       error of the attention's output against the layer, at one cache size

 NAME/result.json of `cake score`, NAME as snapkv-256 or full; needle.csv of `cake eval needle`
  score_by_cache       LongBench, mean of the tasks that all have, against the cache size
  needle_single, needle_multi, needle_kv   part that was found, length x depth
  needle_by_length     the same of prompts without a depth

--cache-size chooses the one of kl_by_position and error_by_layer; else it is the one that most policies have, of equals
the smallest. A picture whose rows are not there is left out, and said so. Exit status: 0; 2 wrong usage, a file that
cannot be read or lacks something, or matplotlib missing (launch/setup.sh python3-matplotlib).
"""
import argparse
import os
from collections import defaultdict

from plots import bench, budgets, fidelity, files, kept, needle, score
from plots.style import give_up, import_matplotlib, left_out

PICTURES = {"bench": bench.PICTURES, "report": budgets.PICTURES, "kept": kept.PICTURES, **fidelity.PICTURES,
            "score": score.PICTURES, "needle": needle.PICTURES}  # by the kind of file


def read_all(paths: list, cache_size) -> dict:
    """{kind: what all files of it hold}."""
    found = defaultdict(list)
    for path in paths:
        kind, rows = files.read(path)
        found[kind] += rows
    for kind in found:
        files.refuse_repeated(kind, found[kind])
    for kind in ("positions", "layers"):
        if cache_size is not None and kind in found:
            sizes = sorted({row["cache_size"] for row in found[kind]})
            if cache_size not in sizes:
                give_up(f"--cache-size {cache_size}: {kind}.csv has {', '.join(map(str, sizes))}")
            found[kind] = [row for row in found[kind] if row["cache_size"] == cache_size]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage="launch/plot.py FILE... --output DIR [--format png|svg] [--cache-size C]")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--output", required=True, metavar="DIR")
    parser.add_argument("--format", choices=["png", "svg"], default="png")
    parser.add_argument("--cache-size", type=int, metavar="C")
    options = parser.parse_args()

    plt = import_matplotlib()
    found = read_all(options.files, options.cache_size)
    try:
        os.makedirs(options.output, exist_ok=True)
        for picture, rows in ((p, found[kind]) for kind in PICTURES if kind in found for p in PICTURES[kind]):
            path = os.path.join(options.output, f"{picture.__name__}.{options.format}")
            figure = picture(plt, rows)
            if isinstance(figure, str):
                left_out(path, figure)
                continue
            figure.savefig(path, dpi=150)
            plt.close(figure)
            print(path)
    except OSError as error:
        give_up(f"{error.filename or options.output}: cannot be written: {error.strerror}")


if __name__ == "__main__":
    main()
