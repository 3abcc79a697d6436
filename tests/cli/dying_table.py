#!/usr/bin/env python3
"""The table of docs/launch.md from what dying_slow_test.cpp wrote: CAKE_DYING_TABLE=FILE ctest -R EveryDeath; dying_table.py FILE"""
import sys

PARTS = ["load", "prefill", "decode", "write"]
rows = {}
for line in open(sys.argv[1]):
    how, part, ranks, seconds, deadline, code = line.split()
    row = rows.setdefault(how, {"code": code})
    row.setdefault(part, {})[ranks] = float(seconds)  # of several runs the last

print("| way |", " | ".join(f"{part}, s" for part in PARTS), "| exit code |")
print("|---|" + "---|" * (len(PARTS) + 1))
for how, row in rows.items():
    times = [" / ".join(f"{s:.1f}" for _, s in sorted(row[part].items())) for part in PARTS]
    print(f"| {how} |", " | ".join(times), f"| {row['code']} |")
