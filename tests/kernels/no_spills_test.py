#!/usr/bin/env python3
"""Tests of no_spills.py: what it must find is found. usage: no_spills_test.py NVCC. Skipped, exit status 77, without cuobjdump."""
import functools
import pathlib
import subprocess
import sys
import tempfile
import unittest

import no_spills

SCRIPT = pathlib.Path(no_spills.__file__)
nvcc = ""

FINE = "__global__ void fine_kernel(float* x) { x[threadIdx.x] *= 2; }"
# 64 numbers that are needed again after their sum: 24 registers do not hold them.
SPILLING = """
__global__ void spilling_kernel(const float* __restrict__ x, float* y) {
    float v[64];
#pragma unroll
    for (int i = 0; i < 64; ++i) v[i] = x[i * 32 + threadIdx.x];
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 64; ++i) sum += v[i];
#pragma unroll
    for (int i = 0; i < 64; ++i) y[i * 32 + threadIdx.x] = v[i] * sum;
}"""
# Which element is written is not known before it runs, so there is no register for it.
INDEXED = """
__global__ void indexed_kernel(const int* at, float* y) {
    float v[8] = {};
    for (int i = 0; i < 100; ++i) v[at[i] & 7] += y[i];
    for (int i = 0; i < 8; ++i) y[i] = v[i];
}"""


class NoSpills(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)

    @classmethod
    @functools.lru_cache(maxsize=None)
    def compiled(cls, source: str, *options: str) -> pathlib.Path:
        folder = pathlib.Path(tempfile.mkdtemp(dir=cls.folder))
        (folder / "planted.cu").write_text(source)
        subprocess.run([nvcc, "-arch=sm_90", "-lineinfo", "-c", "planted.cu", "-o", "planted.o", *options],
                       cwd=folder, check=True)
        return folder / "planted.o"

    def check(self, source: str, *options: str, table: str = ""):
        arguments = [self.compiled(source, *options)]
        if table:
            (self.folder / "table.md").write_text(table)
            arguments = ["--table", self.folder / "table.md", *arguments]
        return subprocess.run([sys.executable, SCRIPT, "--nvcc", nvcc, *arguments], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def table(self, *rows: str) -> str:
        version = subprocess.run([nvcc, "--version"], check=True, text=True, stdout=subprocess.PIPE).stdout
        release = version.partition("release ")[2].partition(",")[0]
        return "\n".join([f"Registers of compute capability 9.0, CUDA {release}:", "", "| file | registers |", *rows, ""])

    def test_lets_a_kernel_without_a_stack_pass(self):
        result = self.check(FINE)
        self.assertEqual((result.returncode, result.stdout), (0, "1 kernels, 0 faults\n"), result.stderr)

    def test_finds_a_kernel_that_spills(self):
        self.assertEqual(self.check(SPILLING).returncode, 0)
        result = self.check(SPILLING, "-maxrregcount=24")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"planted.cu: spilling spills, .* \d+ bytes a thread on sm_90")

    def test_finds_an_array_in_local_memory(self):
        result = self.check(INDEXED)
        self.assertEqual(result.returncode, 1)
        self.assertIn("planted.cu: indexed spills, or has an array in local memory: 32 bytes", result.stderr)

    def test_says_which_figure_is_out_of_date(self):
        result = self.check(FINE, table=self.table("| `planted.cu` | `fine` 255 |", "| `gone.cu` | `gone` 8 |"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("gone.cu has no kernels", result.stderr)
        right = result.stderr.splitlines()[-1]
        self.assertRegex(right, r"^\| `planted.cu` \| `fine` \d+ \|$")
        self.assertEqual(self.check(FINE, table=self.table(right)).returncode, 0)
        self.assertIn("planted.cu is missing", self.check(FINE, table=self.table()).stderr)

    def test_compares_no_table_of_another_cuda(self):
        result = self.check(FINE, table="Registers of compute capability 9.0, CUDA 1.0:\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("not compared: they are listed for sm_90 by CUDA 1.0", result.stdout)
        self.assertEqual(self.check(FINE, table="no registers\n").returncode, 1)

    def test_finds_that_there_are_no_kernels(self):
        result = self.check("int nothing() { return 0; }")
        self.assertEqual(result.returncode, 1)
        self.assertIn("has no kernels", result.stderr)


if __name__ == "__main__":
    nvcc = sys.argv.pop(1)
    if not no_spills.find_cuobjdump(nvcc):
        print("skipped: there is no cuobjdump; launch/setup.sh --cuobjdump fetches it")
        sys.exit(77)
    unittest.main()
