#!/usr/bin/env python3
"""Compares two result files of `cake batch`, made with `--logprobs 2` or more, token by token.

usage: launch/compare_results.py A.jsonl B.jsonl [MARGIN]

Answers may part where the two best tokens of A lie within MARGIN (default 0.001, in log-probability) of each
other: sums over another number of ranks round differently. Whatever follows such a token is not compared.
Prints how many answers are equal and how many part so; exit status 1 where one parts otherwise, or an id is
in one file only.
"""
import json
import sys


def results(path: str) -> dict:
    with open(path) as lines:
        return {r["id"]: r for r in map(json.loads, lines)}


def main() -> None:
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    a, b = results(sys.argv[1]), results(sys.argv[2])
    margin = float(sys.argv[3]) if len(sys.argv) == 4 else 1e-3
    wrong = [f"{job}: in one file only" for job in sorted(a.keys() ^ b.keys())]
    equal = ties = 0
    for job in sorted(a.keys() & b.keys()):
        left, right = a[job]["tokens"], b[job]["tokens"]
        if left == right:
            equal += 1
            continue
        at = next((i for i, (x, y) in enumerate(zip(left, right)) if x != y), min(len(left), len(right)))
        logprobs = a[job].get("logprobs") or []
        if at < len(logprobs) and len(logprobs[at]["top"]) > 1:
            gap = logprobs[at]["top"][0][1] - logprobs[at]["top"][1][1]
            if gap <= margin:
                ties += 1
                print(f"{job}: parts at token {at}, where the best two lie {gap:.2g} apart")
                continue
            wrong.append(f"{job}: parts at token {at}, where the best two lie {gap:.2g} apart")
        else:
            wrong.append(f"{job}: parts at token {at}")
    print(f"{equal} equal, {ties} part at a near tie, {len(wrong)} differ")
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
