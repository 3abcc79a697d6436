#!/usr/bin/env python3
"""No kernel spills, and docs/performance.md lists the registers that kernels have.

usage: no_spills.py [--nvcc NVCC] [--table docs/performance.md] OBJECT_OR_ARCHIVE
exit:  0 so it is, 1 it is not, 77 there is no cuobjdump (launch/setup.sh --cuobjdump fetches it)

A kernel that spills has a stack frame, and so has one with an array that does not fit into registers. The table is compared
where the objects have code for its compute capability, made by its version of CUDA: others give other figures."""
import argparse
import collections
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Bytes of stack that a kernel may have.
ALLOWED_STACK = {
    # sincosf: 7 words that large angles are reduced in, which are indexed by the exponent
    "rope_append": 32,
    "rope_split": 32,
}

Kernel = collections.namedtuple("Kernel", "file arch name registers stack local")


def find_cuobjdump(nvcc: str):
    beside = [pathlib.Path(nvcc).parent / "cuobjdump"] if nvcc else []
    for path in beside + [ROOT / "build/cuobjdump/cuobjdump"]:
        if path.is_file():
            return str(path)
    return shutil.which("cuobjdump")


def kernels_of(cuobjdump: str, objects: str) -> list:
    """All variants of all kernels, for all GPUs that the objects have code for."""
    text = subprocess.run([cuobjdump, "-res-usage", objects], check=True, stdout=subprocess.PIPE, text=True).stdout
    text = subprocess.run(["c++filt", "-p"], check=True, input=text, stdout=subprocess.PIPE, text=True).stdout
    found, file, arch, name = [], "", "", ""
    for line in text.splitlines():
        if match := re.match(r"arch = sm_(\w+)", line):
            arch = match[1]
        elif match := re.match(r"identifier = (?:.*/)?(.+)", line):
            file = match[1]
        elif match := re.match(r" *Function (.+):$", line):
            name = re.search(r"(\w+?)(?:_kernel)?(?:<.*)?$", match[1])[1]
        elif match := re.match(r" *REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", line):
            found.append(Kernel(file, arch, name, *map(int, match.groups())))
    return found


def spills(kernels: list) -> list:
    worst = {}
    for kernel in kernels:
        bytes_used = max(kernel.stack, kernel.local)
        if bytes_used > ALLOWED_STACK.get(kernel.name, 0):
            key = (kernel.file, kernel.name, kernel.arch)
            worst[key] = max(worst.get(key, 0), bytes_used)
    return [f"{file}: {name} spills, or has an array in local memory: {size} bytes a thread on sm_{arch}"
            for (file, name, arch), size in sorted(worst.items())]


def row_of(file: str, ranges: dict) -> str:
    """A row of the table: `norm.cu` | `add` 10-24, `rms_norm` 26-28."""
    def of(low, high):
        return f"{low}" if low == high else f"{low}-{high}"
    return f"| `{file}` | " + ", ".join(f"`{name}` {of(*ranges[name])}" for name in sorted(ranges)) + " |"


def rows_of(kernels: list, arch: str) -> dict:
    """File -> its row."""
    files = collections.defaultdict(dict)
    for kernel in kernels:
        if kernel.arch == arch:
            low, high = files[kernel.file].get(kernel.name, (kernel.registers, kernel.registers))
            files[kernel.file][kernel.name] = (min(low, kernel.registers), max(high, kernel.registers))
    return {file: row_of(file, ranges) for file, ranges in files.items()}


def differences(rows: dict, table: str) -> list:
    listed = dict(re.findall(r"^(?=\| `([\w.]+\.cu)` )(.*)$", table, re.MULTILINE))
    out = [f"{file} has no kernels, take its row out" for file in sorted(listed.keys() - rows.keys())]
    for file in sorted(rows):
        if listed.get(file) != rows[file]:
            out.append(f"{file} is {listed.get(file, 'missing')}, and should be\n{rows[file]}")
    return out


def table_is_of(table: str):
    """Compute capability (90) and version of CUDA (13.0) of the table, by the line above it."""
    match = re.search(r"^Registers of compute capability (\d+)\.(\d+), CUDA ([\d.]+\d)", table, re.MULTILINE)
    return (match[1] + match[2], match[3]) if match else (None, None)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nvcc", default="")
    parser.add_argument("--table", type=pathlib.Path)
    parser.add_argument("objects")
    args = parser.parse_args()
    cuobjdump = find_cuobjdump(args.nvcc)
    if not cuobjdump:
        print("skipped: there is no cuobjdump; launch/setup.sh --cuobjdump fetches it")
        return 77
    kernels = kernels_of(cuobjdump, args.objects)
    faults = spills(kernels)
    if not kernels:
        faults.append(f"{args.objects} has no kernels")
    if args.table:
        text = args.table.read_text()
        arch, cuda = table_is_of(text)
        rows = rows_of(kernels, arch)
        version = subprocess.run([args.nvcc or "nvcc", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
        if not arch:
            faults.append(f"{args.table} does not say which compute capability and CUDA its registers are of")
        elif not rows or f"release {cuda}," not in version:
            print(f"registers are not compared: they are listed for sm_{arch} by CUDA {cuda}")
        else:
            faults += [f"{args.table}: {difference}" for difference in differences(rows, text)]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(kernels)} kernels, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
