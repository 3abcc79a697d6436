#!/usr/bin/env bash
# Configures and builds into build/NAME. Ninja itself configures again when a
# CMakeLists.txt changes, so this calls cmake only for a new folder or new arguments.
#
# usage: launch/build.sh [release|debug|asan|tsan] [arguments of cmake's configure step]
#   e.g. launch/build.sh debug -DCAKE_CUDA=OFF
# CAKE_JOBS=N compiles N files at a time (default: the number of cores).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=${1:-release}
(( $# > 0 )) && shift

case $name in
    release) options=(-DCMAKE_BUILD_TYPE=Release) ;;
    debug)   options=(-DCMAKE_BUILD_TYPE=Debug) ;;
    asan)    options=(-DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCAKE_SANITIZE=address,undefined") ;;
    tsan)    options=(-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCAKE_SANITIZE=thread) ;;
    *)
        echo "usage: launch/build.sh [release|debug|asan|tsan] [arguments of cmake]" >&2
        exit 2
        ;;
esac

folder=$root/build/$name

# cmake takes its launchers from the environment when it first sees a folder; unlike
# -D options, these raise no warning where a language is not used (CUDA).
if command -v ccache >/dev/null; then
    export CMAKE_C_COMPILER_LAUNCHER="${CMAKE_C_COMPILER_LAUNCHER-ccache}"
    export CMAKE_CXX_COMPILER_LAUNCHER="${CMAKE_CXX_COMPILER_LAUNCHER-ccache}"
    export CMAKE_CUDA_COMPILER_LAUNCHER="${CMAKE_CUDA_COMPILER_LAUNCHER-ccache}"
fi

if [[ ! -f $folder/build.ninja ]] || (( $# > 0 )); then
    cmake -S "$root" -B "$folder" -G Ninja "${options[@]}" "$@"
fi
cmake --build "$folder" --parallel "${CAKE_JOBS:-$(nproc)}"
