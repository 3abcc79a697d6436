#!/usr/bin/env python3
"""What launch/gpu_check.sh reads out of files.

gpu_check_report.py prompt INDEX.json NAME     a prompt of a folder of tests/golden, as --prompt-tokens takes it
gpu_check_report.py logits A.json B.json MOST  how far apart log-probabilities of two reports' first tokens are; exit 1
                                               above MOST
gpu_check_report.py kept A.json B.json         how many kept entries differ, of two files of --dump-kept
gpu_check_report.py table FOLDER OUT.json N    the table of all steps, targets after prompts of N tokens; exit 1 where a
                                               step failed
"""
import collections
import json
import pathlib
import re
import sys

# Of a GPU of the class of an H100 (docs/performance.md).
H100_TFLOP_S = 620  # of attention
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
    tests = collections.Counter()  # of all test programs that the step ran
    for what, number in re.findall(r"\[  (PASSED|SKIPPED|FAILED)  \] (\d+) tests?", log):
        tests[what.lower()] += int(number)
    counts = [f"{number} {what}" for what, number in tests.items()]
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
        if name.startswith("bench.") and status == "passed":  # its rows are shown as a table
            step["said"] = "; ".join(
                re.findall("does not fit: [^|]*|is longer than [^|]*|own kernels compute attention in place of cuDNN.*", text))
        memory = folder / f"{name.removeprefix('bench.')}.memory"
        if memory.exists():
            step["peak_mib"] = max((int(n) for n in re.findall(r"^\d+$", memory.read_text(), re.M)), default=None)
        steps.append(step)
    return steps


def key_of(row: dict) -> tuple:
    return row["policy"], row["prompt_tokens"], row["batch"]


def rows_of(folder: pathlib.Path) -> dict:
    """Rows that fit, by key_of."""
    path = folder / "bench.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {key_of(row): row for row in rows if row.get("kind") == "cell" and row.get("fits")}


def text_of(work: pathlib.Path, name: str) -> str:
    path = work / name
    return path.read_text(errors="replace") if path.exists() else ""


def attention_flops(model: dict, length: int) -> float:
    """Of a prefill, the causal half: as prefill.flops has them."""
    heads = model["num_hidden_layers"] * model["num_attention_heads"]
    return 2.0 * length * heads * model["head_dim"] * (length + 1)


def rates_of(row: dict, part: str, model: dict) -> dict:
    """Of linear layers and attention: TFLOP/s of a prefill, GB/s of steps that are not captured (one rank)."""
    if part == "prefill":
        attention = attention_flops(model, row["prompt_tokens"]) / 1e12
        work = {"linear": row["prefill"]["flops"] / 1e12 - attention, "attention": attention}
    else:  # all weights but the embedding's, and the caches
        steps, embedding = row["new_tokens"], 2 * model["vocab_size"] * model["hidden_size"]
        weights = (row["memory"]["weights_bytes"] - embedding) * steps / 1e9
        work = {"linear": weights, "attention": row["decode"]["bytes_per_step"] * steps / 1e9 - weights}
    seconds = {kind: row[part][f"{kind}_s"] for kind in work}
    return {kind: amount / seconds[kind] if seconds[kind] > 0 else None for kind, amount in work.items()}


def targets_of(work: pathlib.Path, model: dict, runs: dict, steps: list, tokens: int) -> list:
    """Each with what it asks for. `sense` ~: a figure that is set beside its limit, and neither met nor missed."""
    out = []

    bench, own, sampled = runs["bench"], runs["own"], runs["sampled"]

    def long(policy: str, batch: int = 1) -> dict:
        return bench[policy, tokens, batch]

    def attention_percent(row: dict) -> float:
        return 100 * rates_of(row, "prefill", model)["attention"] / H100_TFLOP_S

    def linear_percent() -> float:
        return 100 * rates_of(long("cake"), "prefill", model)["linear"] / long("cake")["ceilings"]["gemm_tflop_s"]

    def by_cudnn() -> dict:
        if (not re.search("^attention +cuDNN", text_of(work, "machine.log"), re.M) or
                "in place of cuDNN" in text_of(work, "bench.batch_1.log")):
            raise KeyError
        return long("cake")

    def chosen_percent() -> float:
        prefill = long("cake")["prefill"]
        return 100 * (prefill["observe_s"] + prefill["evict_s"]) / prefill["s"]

    def ratio(batch: int) -> float:
        return long("cake", batch)["decode"]["tokens_per_s"] / long("full", batch)["decode"]["tokens_per_s"]

    def memory() -> dict:
        return sampled["cake", tokens, 1]["memory"]

    def with_libraries() -> int:
        return memory()["planned_bytes"] + json.loads(text_of(work, "plan.json"))["gpu_library_bytes"]

    def said_by_smi() -> int:
        return next(step["peak_mib"] for step in steps if step["name"] == "bench.sampled") << 20

    def apart(a: float, b: float) -> float:
        return 100 * abs(a - b) / b

    def or_none(measure):
        try:
            return measure()
        except (KeyError, TypeError, ZeroDivisionError, ValueError, OSError, StopIteration):  # no step came to it
            return None

    def target(name: str, unit: str, sense: str, wanted: float, measure) -> None:
        value = or_none(measure)
        met = None if value is None or sense == "~" else value >= wanted if sense == ">=" else value <= wanted
        out.append({"name": name, "measured": value, "unit": unit, "wanted": wanted, "sense": sense, "met": met})

    planned_gib = or_none(lambda: with_libraries() / 2**30)
    greedy_ms = or_none(lambda: long("cake")["decode"]["step_ms"])
    here = f"{tokens:,}"
    target(f"decode, batch 1, cake after {here}", "% of copy", ">=", 78,
           lambda: long("cake")["decode"]["percent_of_bandwidth"])
    target(f"decode, batch 1, full after {here}", "% of copy", ">=", 75,
           lambda: long("full")["decode"]["percent_of_bandwidth"])
    target(f"cake / full in decoding after {here}, batch 1", "x (at most possible)", "~", 2.1, lambda: ratio(1))
    target(f"cake / full in decoding after {here}, batch 4", "x (at most possible)", "~", 5.4, lambda: ratio(4))
    target(f"prefill of {here}, cake", "s", "<=", 14, lambda: long("cake")["prefill"]["s"])
    target("the same, the first time that a process does it", "s", "~", 14,
           lambda: sampled["cake", tokens, 1]["prefill"]["s"])
    target(f"linear layers of a prefill of {here}", "% of GEMM", ">=", 80, linear_percent)
    target("attention of it, cuDNN", f"% of {H100_TFLOP_S} TFLOP/s", ">=", 75, lambda: attention_percent(by_cudnn()))
    longest = max((row["prompt_tokens"] for row in own.values()), default=tokens)
    target(f"attention of {longest:,}, our own", f"% of {H100_TFLOP_S} TFLOP/s", ">=", 45,
           lambda: attention_percent(own["cake", longest, 1]))
    target("statistics, selection and gather of it", "%", "<=", 1, chosen_percent)
    target(f"peak memory of {here}, cake, beside the weights", "GiB", "<=", 2.5,
           lambda: (memory()["device_peak_bytes"] - memory()["weights_bytes"]) / 2**30)
    target("peak against the plan", "% apart", "<=", 5,
           lambda: apart(memory()["device_peak_bytes"], memory()["planned_bytes"]))
    target("memory in use, says the device, against plan and libraries", "% apart", "<=", 5,
           lambda: apart(memory()["device_used_bytes"], with_libraries()))
    target("memory in use at most, says nvidia-smi", "GiB (plan and libraries)", "~", planned_gib,
           lambda: said_by_smi() / 2**30)
    target(f"a sampled step after {here}, cake (greedy)", "ms", "~",
           greedy_ms, lambda: sampled["cake", tokens, 1]["decode"]["step_ms"])
    return out


def number(value, width: int, digits: int) -> str:
    return f"{value:{width}.{digits}f}" if isinstance(value, (int, float)) else f"{'-':>{width}}"


def in_order(rows: dict) -> list:
    return sorted(rows.items(), key=lambda item: (item[0][1], item[0][2], item[0][0]))


def print_rows(rows: dict) -> None:
    print(f"\n{'policy':8}{'prompt':>8}{'batch':>6} | {'prefill s':>9}{'TFLOP/s':>9}{'% GEMM':>8} | "
          f"{'tokens/s':>9}{'step ms':>9}{'GB/s':>9}{'% copy':>8}{'x full':>7} | {'peak GiB':>8}")
    for (policy, length, batch), row in in_order(rows):
        p, d = row["prefill"], row["decode"]
        full = rows.get(("full", length, batch))
        ratio = d["tokens_per_s"] / full["decode"]["tokens_per_s"] if full and policy != "full" else None
        peak = row["memory"]["device_peak_bytes"]
        print(f"{policy:8}{length:8}{batch:6} | {number(p['s'], 9, 3)}{number(p['tflop_s'], 9, 3)}"
              f"{number(p['percent_of_gemm'], 8, 1)} | {number(d['tokens_per_s'], 9, 1)}{number(d['step_ms'], 9, 3)}"
              f"{number(d['gb_s'], 9, 1)}{number(d['percent_of_bandwidth'], 8, 1)}{number(ratio, 7, 2)} | "
              f"{number(peak and peak / 2**30, 8, 2)}")


def print_phases(rows: dict, part: str, model: dict) -> None:
    """Seconds of a prefill, milliseconds of a step of decoding; rates of linear layers and attention."""
    unit, rate = ("s", "TFLOP/s") if part == "prefill" else ("ms a step", "GB/s")
    print(f"\n{f'{part}, {unit}':19}{'prompt':>8}{'batch':>6}" + "".join(f"{phase:>11}" for phase in PHASES) +
          f" | {rate}: linear, attention")
    for (policy, length, batch), row in in_order(rows):
        scale = 1 if part == "prefill" else 1e3 / row["new_tokens"]
        print(f"{policy:19}{length:8}{batch:6}" +
              "".join(f"{scale * (row[part].get(phase + '_s') or 0):11.4f}" for phase in PHASES) + " | " +
              ", ".join(number(value, 0, 3) for value in rates_of(row, part, model).values()))


def print_target(target: dict) -> None:
    value = target["measured"]
    if value is None:
        verdict, measured = "not measured", ""
    else:
        verdict = {True: "met", False: "missed", None: "measured"}[target["met"]]
        measured = f"{value:.4g} {target['unit']}, "
    wanted = "-" if target["wanted"] is None else f"{target['wanted']:.4g}"
    asked = "beside" if target["sense"] == "~" else f"wanted {target['sense']}"
    print(f"{verdict:13}{target['name']}: {measured}{asked} {wanted}")


def table(folder: str, out: str, tokens: str) -> int:
    work = pathlib.Path(folder)
    steps = steps_of(work)
    runs = {name: rows_of(work / name) for name in ("bench", "own", "phases", "sampled")}
    model = json.loads(text_of(work, "config.json") or "{}")
    targets = targets_of(work, model, runs, steps, int(tokens))
    everything = {"machine": text_of(work, "machine.log").splitlines(),
                  "ceilings": text_of(work, "ceilings.log").splitlines(), "steps": steps, "targets": targets,
                  "tflop_s_of_prefill": [{"policy": key[0], "prompt_tokens": key[1], "batch": key[2],
                                          **rates_of(row, "prefill", model)} for key, row in runs["bench"].items()],
                  "gb_s_of_steps": [{"policy": key[0], "prompt_tokens": key[1], "batch": key[2],
                                     **rates_of(row, "decode", model)} for key, row in runs["phases"].items()],
                  "kernels": json.loads(text_of(work, "kernels_alone/kernels.json") or "null"),
                  "rows": {name: list(rows.values()) for name, rows in runs.items()}}
    pathlib.Path(out).write_text(json.dumps(everything, indent=1) + "\n")
    titles = {"bench": "", "own": "with attention of our own, not cuDNN's:",
              "sampled": "sampled steps:"}
    for name, title in titles.items():
        if runs[name]:
            print(f"\n{title}", end="")
            print_rows(runs[name])
    if runs["bench"]:
        print_phases({key: row for key, row in runs["bench"].items() if key[2] == 1}, "prefill", model)
    if runs["phases"]:
        print("\nsteps whose kernels are launched one by one (captured ones are a replay):", end="")
        print_phases(runs["phases"], "decode", model)
    print(f"\neach kernel by itself:\n{text_of(work, 'kernels_alone.log')}")
    for target in targets:
        print_target(target)
    for step in steps:
        peak = f"{step['peak_mib']} MiB in use at most" if step.get("peak_mib") else ""
        what = "; ".join(text for text in (step["why"], step["said"][-150:], peak) if text)
        print(f"{step['status']:8}{step['seconds']:4} s  {step['name']:30} {what}")
    count = {status: sum(step["status"] == status for step in steps) for status in ("passed", "failed", "skipped")}
    print(", ".join(f"{number} {status}" for status, number in count.items()))
    return int(count["failed"] > 0 or count["passed"] == 0)


COMMANDS = {"prompt": prompt, "logits": logits, "kept": kept, "table": table}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    sys.exit(COMMANDS[sys.argv[1]](*sys.argv[2:]))
