#!/usr/bin/env bash
# Installs what is missing, builds, fetches the demo model and tokenizers, and runs the tests.
# The last line is "N passed, N failed, N skipped"; the exit status is 0 only if
# tests ran and none failed.
#
# usage: launch/test.sh [quick|full] [arguments of ctest]
#   quick   leaves out the tests labelled "slow"
#   e.g. launch/test.sh full -R Cascade
# CAKE_TEST_JOBS=N        runs N tests at a time (default 1), but for those that start ranks, or look at the clock
# CAKE_TEST_MODEL=FILE    the model for tests of a real one (default: the demo model)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mode=${1:-full}
(( $# > 0 )) && shift

case $mode in
    quick) selection=(--label-exclude '^slow$') ;;
    full)  selection=() ;;
    *)
        echo "usage: launch/test.sh [quick|full] [arguments of ctest]" >&2
        exit 2
        ;;
esac

# Printed last, wherever this script ends: a failed build is "0 passed", not silence.
counts="0 passed, 0 failed, 0 skipped"
trap 'echo "$counts"' EXIT

bash "$root/launch/setup.sh"
# Fuzzing wants another compiler; a person's tests run without it, CI's do not.
if [[ $mode == full ]] && ! bash "$root/launch/setup.sh" clang libclang-rt-dev; then
    [[ ${CI:-} == true ]] && exit 2
    echo "test: warning: no clang with libFuzzer; the fuzz tests are skipped" >&2
fi
# A real Slurm, 4 MB, which the tests start and stop themselves; and hosts in network namespaces.
if [[ $mode == full ]] && ! bash "$root/launch/setup.sh" slurm-wlm munge iproute2 procps util-linux; then
    [[ ${CI:-} == true ]] && exit 2
    echo "test: warning: no Slurm; the tests of job scripts are skipped" >&2
fi
bash "$root/launch/build.sh" release
if [[ $mode == full && -f $root/build/release/libcake_cuda.a ]]; then
    bash "$root/launch/get_cuobjdump.sh" >/dev/null ||
        echo "test: warning: no cuobjdump; the test of kernels' registers is skipped" >&2
fi

if [[ -z ${CAKE_TEST_MODEL:-} ]]; then
    if CAKE_TEST_MODEL=$(bash "$root/launch/get_model.sh" smollm2); then
        export CAKE_TEST_MODEL
    else
        unset CAKE_TEST_MODEL
        echo "test: warning: no demo model; the tests that need it are skipped" >&2
    fi
fi

bash "$root/launch/get_tokenizers.sh" >/dev/null ||
    echo "test: warning: no tokenizers of other families; the tests that need them are skipped" >&2

# shellcheck source=launch/env.sh
source "$root/launch/env.sh"
# Tests start up to 4 ranks, on however few cores.
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"

results=$root/build/release/test-results.xml
rm -f "$results"
status=0
ctest --test-dir "$root/build/release" --output-on-failure --no-tests=error \
    --output-junit "$results" --parallel "${CAKE_TEST_JOBS:-1}" \
    "${selection[@]}" "$@" </dev/null || status=$?
[[ -f $results ]] || exit 1

# CTest counts a test as skipped too when its program is missing or its fixture failed.
# Here only a test that said itself that it skips counts as skipped; the others failed.
counts=$(python3 - "$results" <<'PYTHON'
import sys
import xml.etree.ElementTree as xml

passed = failed = skipped = 0
for test in xml.parse(sys.argv[1]).iter("testcase"):
    reason = test.find("skipped")
    if test.get("status") == "run":
        passed += 1
    elif test.get("status") == "disabled":
        skipped += 1
    elif reason is not None and reason.get("message", "").startswith("SKIP_"):
        skipped += 1
    else:
        failed += 1
print(f"{passed} passed, {failed} failed, {skipped} skipped")
PYTHON
)

(( status == 0 )) || exit 1
case $counts in
    "0 passed, 0 failed, "*) echo "test: no test ran" >&2; exit 1 ;;
    *", 0 failed, "*)        exit 0 ;;
    *)                       exit 1 ;;
esac
