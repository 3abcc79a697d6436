#!/usr/bin/env bash
# Puts the headers of cudnn-frontend into build/cudnn-frontend/include, where CMake finds them, and prints that folder, the
# only line on stdout. Headers that are there are not fetched again. cuDNN itself comes with CUDA or from NVIDIA.
#
# usage: launch/get_cudnn_frontend.sh      (or launch/setup.sh --cudnn-frontend)
set -euo pipefail

say() { echo "get_cudnn_frontend: $*" >&2; }

# The headers are the same in the wheels of all versions of Python: that of one is taken, whatever runs here.
package=nvidia-cudnn-frontend==1.32.0
python_version=3.11
sha256=c6006556017a4d1c914c52a556c71b1267f2d6a0500f742e7b4edef539878df0

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=$root/build/cudnn-frontend

if [[ -f $target/include/cudnn_frontend.h ]]; then
    echo "$target/include"
    exit 0
fi

mkdir -p "$target"
scratch=$(mktemp -d "$target/.fetching.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

say "fetching $package into $target"
if ! bash "$root/launch/fetch_wheel.sh" "$scratch" "$sha256" "$package" --python-version "$python_version"; then
    say "Without a network, on a machine that has one:"
    say "    pip download --no-deps --only-binary=:all: --python-version $python_version $package"
    say "    python3 -m zipfile -e nvidia_cudnn_frontend-*.whl UNPACKED"
    say "and copy UNPACKED/include to $target/include"
    exit 1
fi
mv -f "$scratch"/*.dist-info/licenses "$target/licenses"
mv -f "$scratch/include" "$target/include"
echo "$target/include"
