#!/usr/bin/env python3
"""Writes a file of jobs for `cake batch` from LongBench rows, contexts cut in the middle.

usage: launch/longbench_jobs.py LONGBENCH_FOLDER N_JOBS SHORTEST LONGEST > jobs.jsonl

LONGBENCH_FOLDER holds tasks/*.jsonl and config/dataset2prompt.json. Lengths are spread evenly between
SHORTEST and LONGEST, in tokens, at 4 characters a token: about right for English. The same arguments
give the same jobs.
"""
import json
import pathlib
import sys


def cut_in_the_middle(text: str, characters: int) -> str:
    half = characters // 2
    return text if len(text) <= characters else text[:half] + text[len(text) - half :]


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    n_jobs, shortest, longest = map(int, sys.argv[2:])
    prompts = json.loads((folder / "config" / "dataset2prompt.json").read_text())
    tasks = sorted((folder / "tasks").glob("*.jsonl"))
    rows = {task: task.read_text().splitlines() for task in tasks}
    for i in range(n_jobs):
        task, line = tasks[i % len(tasks)], i // len(tasks)
        row = json.loads(rows[task][line % len(rows[task])])
        # 37 and n_jobs have no common factor, mostly: neighbours in the file differ in length.
        tokens = shortest + (longest - shortest) * (i * 37 % n_jobs) // max(n_jobs - 1, 1)
        frame = prompts[task.stem].format(context="", input=row["input"])
        row["context"] = cut_in_the_middle(row["context"], max(4 * tokens - len(frame), 0))
        print(json.dumps({"id": f"{task.stem}-{line}", "prompt": prompts[task.stem].format(**row)}))


if __name__ == "__main__":
    main()
