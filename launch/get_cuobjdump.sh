#!/usr/bin/env bash
# Puts NVIDIA's cuobjdump into build/cuobjdump, where tests look for it, and prints its path, the only line on stdout. It shows
# what kernels need of a GPU's registers; where a whole CUDA toolkit is, it is there already.
#
# usage: launch/get_cuobjdump.sh      (or launch/setup.sh --cuobjdump)
set -euo pipefail

say() { echo "get_cuobjdump: $*" >&2; }

package=nvidia-cuda-cuobjdump==13.5.37  # it reads what older compilers made
sha256=38780fee50863252a0b8926357faa91615ca1c8346490563f33a06100cd73f58

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=$root/build/cuobjdump

if [[ ! -x $target/cuobjdump ]]; then
    mkdir -p "$target"
    scratch=$(mktemp -d "$target/.fetching.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    say "fetching $package into $target"
    bash "$root/launch/fetch_wheel.sh" "$scratch" "$sha256" "$package"
    chmod +x "$scratch"/nvidia/*/bin/cuobjdump
    mv -f "$scratch"/*.dist-info/licenses "$target/licenses"
    mv -f "$scratch"/nvidia/*/bin/cuobjdump "$target/cuobjdump"
fi
echo "$target/cuobjdump"
