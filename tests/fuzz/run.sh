#!/usr/bin/env bash
# Fuzzes the readers of files: tests/fuzz/run.sh [SECONDS per target, else 60] [TARGET...]
# A target is fuzz_TARGET.cpp here; all of them if none is named. Builds with clang's libFuzzer and
# with checks of addresses and of undefined behaviour in build/fuzz; inputs that fail are kept
# there. Ends with an error at the first finding. With CAKE_FUZZ_SKIP=1 it ends with 77, which ctest
# counts as skipped, where clang or libFuzzer is missing and cannot be installed.
set -euo pipefail

seconds=${1:-60}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${CAKE_FUZZ_BUILD:-$root/build/fuzz}
mkdir -p "$build/objects"

targets=("${@:2}")
if [[ ${#targets[@]} -eq 0 ]]; then
    for file in "$here"/fuzz_*.cpp; do
        target=$(basename "$file" .cpp)
        targets+=("${target#fuzz_}")
    done
fi

missing() { # WHAT
    echo "run.sh: $1" >&2
    [[ ${CAKE_FUZZ_SKIP:-} == 1 ]] && exit 77
    exit 2
}

if ! command -v clang++ >/dev/null; then
    missing "clang++ is needed (Debian: clang, libclang-rt-dev)"
fi
if ! echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    clang++ -fsanitize=fuzzer,address -x c++ - -o "$build/probe" 2>/dev/null; then
    package=libclang-rt-$(clang++ -dumpversion | cut -d. -f1)-dev
    if [[ $EUID -ne 0 ]] || ! apt-get install -y --no-install-recommends "$package"; then
        missing "libFuzzer is missing; install $package"
    fi
fi

launcher=$(command -v ccache || true)
read -ra packages < <(pkg-config --cflags fmt spdlog yaml-cpp libpcre2-8 libutf8proc)
read -ra libraries < <(pkg-config --libs fmt spdlog yaml-cpp libpcre2-8 libutf8proc)
compile() { # SOURCE OBJECT; nothing to do where no source has changed since
    [[ -e $2 && -z $(find "$root/src" "$root/tests" -newer "$2" -name '*.[ch]*' -print -quit) ]] && return
    $launcher clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined \
        -fno-sanitize-recover=undefined -I"$root/src" -I"$root" -I"$root/tests" -I"$here" \
        "${packages[@]}" -c "$1" -o "$2"
}

# What a target does not need is compiled only if another target asks for it.
folders=(base io)
for target in "${targets[@]}"; do
    [[ $target == config ]] && folders+=(config)
    [[ $target == tokenizer ]] && folders+=(text)
done
objects=()
for folder in "${folders[@]}"; do
    for source in "$root/src/$folder"/*.cpp; do
        object=$build/objects/$folder-$(basename "$source" .cpp).o
        compile "$source" "$object"
        objects+=("$object")
    done
done
# The build compiles configs/models and configs/machines in; here there are none.
echo '#include "config/compiled_files.h"
std::span<const cake::CompiledFile> cake::model_files() { return {}; }
std::span<const cake::CompiledFile> cake::machine_files() { return {}; }' >"$build/compiled_files.cpp"
compile "$build/compiled_files.cpp" "$build/objects/compiled_files.o"
objects+=("$build/objects/compiled_files.o")
rm -f "$build/libfuzzed.a"
ar rcs "$build/libfuzzed.a" "${objects[@]}"

python3 "$here/make_corpus.py" "$build/seeds"
for target in "${targets[@]}"; do
    compile "$here/fuzz_$target.cpp" "$build/objects/fuzz_$target.o"
    clang++ -fsanitize=fuzzer,address,undefined "$build/objects/fuzz_$target.o" \
        "$build/libfuzzed.a" "${libraries[@]}" -o "$build/fuzz_$target"
    mkdir -p "$build/corpus/$target" "$build/seeds/$target"
    echo "== $target, $seconds s"
    (cd "$build" && "./fuzz_$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
        -rss_limit_mb=1024 -verbosity=0 -print_funcs=0 -print_final_stats=1 \
        -artifact_prefix="$build/$target-" "corpus/$target" "seeds/$target") 2>&1 |
        { grep -vE '^###### |^".*# Uses: ' || true; }
done
echo "run.sh: no findings"
