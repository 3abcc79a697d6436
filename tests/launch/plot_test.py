#!/usr/bin/env python3
"""Tests of launch/plot.py with made-up rows of a benchmark. Skipped, exit status 77, where matplotlib is missing."""
import json

from plot_case import PlotCase, main

PICTURES = {"decode_by_prompt", "prefill_by_prompt", "kv_by_prompt", "decode_by_batch", "scaling", "phases", "roofline"}


def cell(policy="cake", cache_size=1024, prompt=8192, batch=1, ranks=1, repetition=0) -> dict:
    """A row as `cake bench` writes it; its figures are of no machine."""
    kept = prompt if policy == "full" else min(prompt, cache_size)
    wobble = 1 + 0.02 * repetition
    prefill = {"s": prompt / 5000 / ranks * wobble, "tokens_per_s": 5000 * ranks / wobble, "percent_of_gemm": 61.0}
    decode = {"s": 10.0, "tokens_per_s": 200 * batch * ranks * wobble / (1 + kept / 8192), "step_ms": 5.0,
              "percent_of_bandwidth": 70.0, "sampling_s": 0.1}
    for phase, part in (("linear", 0.5), ("attention", 0.3), ("observe", 0.05), ("evict", 0.05), ("all_reduce", 0.05),
                        ("other", 0.05)):
        prefill[phase + "_s"] = part * prefill["s"]
        decode[phase + "_s"] = part * decode["s"]
    return {"config": "test", "id": "x", "kind": "cell", "version": "0", "policy": policy, "cache_size": cache_size,
            "machine": {"host": "here", "device": "none", "ranks": ranks, "threads": 1, "backend": "cpu"},
            "model": {"path": "models/small", "architecture": "llama", "layers": 2}, "prompt_tokens": prompt,
            "batch": batch, "new_tokens": 8, "repetition": repetition, "prefill": prefill, "decode": decode,
            "kv": {"kept_bytes": kept * 1000, "peak_bytes": (kept + prompt) * 1000, "full_bytes": prompt * 3000},
            "ceilings": {"read_gb_s": 10, "gemm_tflop_s": 1}}


def sweep() -> list:
    rows = []
    for policy, cache_size in (("full", 0), ("cake", 1024), ("cake", 128)):
        for repetition in range(2):
            rows += [cell(policy, cache_size, prompt=p, repetition=repetition) for p in (2048, 8192, 32768)]
            rows += [cell(policy, cache_size, batch=b, repetition=repetition) for b in (4, 8)]
            rows += [cell(policy, cache_size, ranks=r, repetition=repetition) for r in (2, 4)]
    return rows + [dict(cell("full", 0, prompt=1 << 20), fits=False, prefill=None, decode=None, kv=None)]


class Plot(PlotCase):
    def plot(self, rows, *more):
        text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
        return self.draw({"bench.jsonl": text}, *more)

    def test_draws_every_picture_of_a_whole_sweep(self):
        result = self.plot(sweep())
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.drawn(), PICTURES)
        self.assertNotIn("left out", result.stdout)
        self.assertEqual(result.stderr, "")
        for path in (self.folder / "out").iterdir():
            self.assertEqual(path.read_bytes()[:4], b"\x89PNG")

    def test_writes_svg_with_units_and_policies_in_words(self):
        self.assertEqual(self.plot(sweep(), "--format", "svg").returncode, 0)
        text = (self.folder / "out" / "decode_by_prompt.svg").read_text()
        for word in ("decoding, tokens/s", "prompt, tokens", "cake, C = 128", "full"):
            self.assertIn(f"<!-- {word} -->", text)

    def test_leaves_out_what_has_no_rows_and_says_so(self):
        result = self.plot([cell()])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.drawn(), {"phases", "roofline"})
        self.assertIn("scaling.png: it needs rows of two numbers of ranks or more", result.stdout)
        self.assertEqual(result.stdout.count("left out: "), 5)

    def test_draws_nothing_where_nothing_fitted(self):
        result = self.plot([{"kind": "cell", "fits": False, "policy": "full", "prompt_tokens": 9}])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.drawn(), set())
        self.assertEqual(result.stdout.count("left out: "), 7)

    def test_refuses_what_is_no_benchmark(self):
        for rows, message in (("", "no row of kind"), ("{}\n", "no row of kind"), ("{\n", "jsonl:1: this is not JSON"),
                              ("[1]\n", "jsonl:1: this is no row"), ("\x00\n", "jsonl:1: this is not JSON")):
            result = self.plot(rows)
            self.assertEqual(result.returncode, 2)
            self.assertIn(message, result.stderr)
            self.assertNotIn("Traceback", result.stderr)


if __name__ == "__main__":
    main()
