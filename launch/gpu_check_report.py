#!/usr/bin/env python3
"""What launch/gpu_check.sh reads out of files.

gpu_check_report.py prompt INDEX.json NAME     a prompt of a folder of tests/golden, as --prompt-tokens takes it
gpu_check_report.py logits A.json B.json MOST  how far apart log-probabilities of two reports' first tokens are; exit 1
                                               above MOST
gpu_check_report.py kept A.json B.json         how many kept entries differ, of two files of --dump-kept
gpu_check_report.py table FOLDER OUT.json      the table of all steps; exit 1 where one failed
"""
import json
import pathlib
import re
import sys

# Of a GPU of the class of an H100 (docs/performance.md); name, what is measured, whether it is to be at least or at most.
TARGETS = [
    ("decode, batch 1, cake after 131,072: % of copy", ("cake", 131072, 1, "decode", "percent_of_bandwidth"), ">=", 78),
    ("decode, batch 1, full after 131,072: % of copy", ("full", 131072, 1, "decode", "percent_of_bandwidth"), ">=", 75),
    ("prefill of 131,072, cake: s", ("cake", 131072, 1, "prefill", "s"), "<=", 14),
]
PHASES = ("linear", "attention", "observe", "evict", "all_reduce", "replay", "sampling", "other")


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def prompt(index: str, name: str) -> int:
    print(json.dumps(read(index)["prompts"][name]["input_ids"]))
    return 0


def first_logprobs(path: str) -> dict:
    return {token: value for token, value in read(path)["requests"][0]["logprobs"][0]["top"]}


def logits(a: str, b: str, most: str) -> int:
    x, y = first_logprobs(a), first_logprobs(b)
    common = x.keys() & y.keys()
    if len(common) < min(3, len(x)):
        print(f"of the likeliest {len(x)} first tokens {len(common)} are the other's")
        return 1
    apart = max(abs(x[token] - y[token]) for token in common)
    print(f"log-probabilities of {len(common)} of {len(x)} likeliest tokens are at most {apart:.4f} apart (allowed {most})")
    return not apart <= float(most)  # not a number is a failure


def kept(a: str, b: str) -> int:
    different = entries = 0
    for p, q in zip(read(a)["requests"][0]["layers"], read(b)["requests"][0]["layers"]):
        for x, y in zip(p, q):
            different += max(len(set(x) - set(y)), len(set(y) - set(x)))
            entries += max(len(x), len(y))
    print(f"{different} of {entries} kept entries differ")
    return 0


def said(log: str) -> str:
    """What matters of a step's output, in a line."""
    counts = [f"{number} {what.lower()}" for what, number in re.findall(r"\[  (PASSED|SKIPPED|FAILED)  \] (\d+) tests?", log)]
    errors = re.search(r"ERROR SUMMARY: (.*)|RACECHECK SUMMARY: (.*)", log)
    if errors:
        counts.append(errors[1] or errors[2])
    lines = [line for line in log.splitlines() if line.strip()]
    if counts:
        return ", ".join(counts)
    agreement = [line for line in lines if " apart " in line or " differ" in line or "error" in line]
    return "; ".join((agreement or lines)[-2:])


def steps_of(folder: pathlib.Path) -> list:
    steps = []
    for line in (folder / "steps.tsv").read_text().splitlines():
        name, status, seconds, why = line.split("\t")
        log = folder / f"{name}.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        step = {"name": name, "status": status, "seconds": int(seconds), "why": why, "said": said(text)}
        memory = folder / f"{name.removeprefix('bench.')}.memory"
        if memory.exists():
            step["peak_mib"] = max((int(n) for n in re.findall(r"^\d+$", memory.read_text(), re.M)), default=None)
        steps.append(step)
    return steps


def key_of(row: dict) -> tuple:
    return row["policy"], row["prompt_tokens"], row["batch"]


def rows_of(folder: pathlib.Path) -> list:
    path = folder / "bench.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in rows if row.get("kind") == "cell"]


def targets_of(rows: list) -> list:
    found = {key_of(row): row for row in rows if row.get("fits")}
    out = []
    for name, (policy, length, batch, part, key), sense, wanted in TARGETS:
        value = found.get((policy, length, batch), {}).get(part, {}).get(key)
        met = None if value is None else value >= wanted if sense == ">=" else value <= wanted
        out.append({"name": name, "measured": value, "wanted": f"{sense} {wanted}", "met": met})
    return out


def print_rows(rows: list) -> None:
    found = {key_of(row): row for row in rows if row.get("fits")}
    print(f"\n{'policy':8}{'prompt':>8}{'batch':>6} | {'prefill s':>9}{'TFLOP/s':>10}{'% GEMM':>8} | "
          f"{'tokens/s':>9}{'step ms':>10}{'GB/s':>10}{'% copy':>8}{'x full':>7}")
    for (policy, length, batch), row in sorted(found.items(), key=lambda item: (item[0][1], item[0][2], item[0][0])):
        p, d = row["prefill"], row["decode"]
        full = found.get(("full", length, batch))
        ratio = d["tokens_per_s"] / full["decode"]["tokens_per_s"] if full and policy != "full" else None
        print(f"{policy:8}{length:8}{batch:6} | {p['s']:9.3f}{p['tflop_s']:10.3g}{p['percent_of_gemm']:8.1f} | "
              f"{d['tokens_per_s']:9.1f}{d['step_ms']:10.3f}{d['gb_s']:10.4g}{d['percent_of_bandwidth']:8.1f}"
              f"{f'{ratio:.2f}' if ratio else '-':>7}")
    print(f"\nseconds by phase   {'prompt':>8}{'batch':>6}" + "".join(f"{phase:>11}" for phase in PHASES))
    for (policy, length, batch), row in sorted(found.items(), key=lambda item: (item[0][1], item[0][2], item[0][0])):
        for part in ("prefill", "decode"):
            if part == "decode" or batch == 1:
                print(f"{policy:11}{part:8}{length:8}{batch:6}" +
                      "".join(f"{row[part].get(phase + '_s') or 0:11.4f}" for phase in PHASES))


def table(folder: str, out: str) -> int:
    work = pathlib.Path(folder)
    steps, rows, own = steps_of(work), rows_of(work / "bench"), rows_of(work / "own")
    targets = targets_of(rows)

    def log(name: str) -> str:
        path = work / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    everything = {"machine": log("machine").splitlines(), "ceilings": log("ceilings").splitlines(), "steps": steps,
                  "rows": rows, "rows_of_own_attention": own, "targets": targets}
    pathlib.Path(out).write_text(json.dumps(everything, indent=1) + "\n")
    if rows:
        print_rows(rows)
    if own:
        print("\nwith attention of our own, not cuDNN's:")
        print_rows(own)
    print()
    for target in targets:
        met = {True: "met", False: "missed", None: "not measured"}[target["met"]]
        measured = "" if target["met"] is None else f"{target['measured']:.4g}, "
        print(f"{met:13}{target['name']}: {measured}wanted {target['wanted']}")
    for step in steps:
        what = "; ".join(text for text in (step["why"], step["said"][-150:]) if text)
        print(f"{step['status']:8}{step['seconds']:4} s  {step['name']:30} {what}")
    count = {status: sum(step["status"] == status for step in steps) for status in ("passed", "failed", "skipped")}
    print(", ".join(f"{number} {status}" for status, number in count.items()))
    return int(count["failed"] > 0 or count["passed"] == 0)


COMMANDS = {"prompt": prompt, "logits": logits, "kept": kept, "table": table}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    sys.exit(COMMANDS[sys.argv[1]](*sys.argv[2:]))
