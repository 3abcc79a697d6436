#!/usr/bin/env python3
"""Prompts and jobs for the tiny model of tests/golden, and a look at results.

usage: jobs.py prompt                       a prompt of 300 tokens
       jobs.py jobs N NEW_TOKENS            N jobs of 20 to 300 tokens
       jobs.py complete JOBS RESULTS        exit 1 unless each job has one result, none of them an error
       jobs.py same RESULTS OTHER_RESULTS   exit 1 unless both have the same tokens for the same ids
"""
import json
import pathlib
import sys

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "tiny-llama" / "index.json"


def prompt() -> list:
    return json.loads(GOLDEN.read_text())["prompts"]["p300"]["input_ids"]


def job(i: int, new_tokens: int) -> dict:
    return {"id": f"job{i}", "tokens": [3 + i % 500] + prompt()[1:20 + i * 37 % 281], "max_new_tokens": new_tokens}


def read(path: str) -> dict:
    lines = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    ids = [line["id"] for line in lines]
    if len(set(ids)) != len(ids):
        sys.exit(f"{path}: an id is there twice")
    return dict(zip(ids, lines))


def complete(jobs: str, results: str) -> None:
    wanted, done = read(jobs), read(results)
    if wanted.keys() != done.keys():
        sys.exit(f"{results}: {len(done)} results of {len(wanted)} jobs")
    wrong = [id for id, result in done.items() if len(result["tokens"]) != wanted[id]["max_new_tokens"]]
    if wrong:
        sys.exit(f"{results}: {wrong[0]} has {done[wrong[0]]}")


def same(one: str, other: str) -> None:
    tokens = [{id: result["tokens"] for id, result in read(path).items()} for path in (one, other)]
    if tokens[0] != tokens[1]:
        sys.exit(f"{one} and {other} differ")


if __name__ == "__main__":
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "prompt":
        print(json.dumps(prompt()))
    elif command == "jobs":
        for number in range(int(arguments[0])):
            print(json.dumps(job(number, int(arguments[1]))))
    else:
        {"complete": complete, "same": same}[command](*arguments)
