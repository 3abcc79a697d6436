# shellcheck shell=bash
# What the tests of launching share. To be sourced; `root` is the folder of the repository then.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
program=${CAKE_PROGRAM:-$root/build/release/cake}
# shellcheck disable=SC2034
model=$root/tests/golden/tiny-llama/model

skip() { echo "skipped: $1"; exit 77; }
fail() { echo "failed: $1" >&2; exit 1; }
expect_equal() { [[ $1 == "$2" ]] || fail "$3: '$1' instead of '$2'"; }

# expect_line FILE PATTERN: an extended regular expression that a line of the file matches.
expect_line() {
    grep -Eq -- "$2" "$1" && return
    tail -n 20 "$1" >&2
    fail "no line of $1 matches '$2'"
}

# wait_until SECONDS COMMAND...: until the command succeeds; it is asked every 50 ms. Fails when the time is over.
wait_until() {
    local end=$(( $(date +%s%N) + $1 * 1000000000 ))
    shift
    until "$@"; do
        (( $(date +%s%N) < end )) || return 1
        sleep 0.05
    done
}

has_lines() { [[ -f $1 ]] && (( $(wc -l <"$1") >= $2 )); }

# A program that cannot be started with MPI: ThreadSanitizer's.
skip_where_mpi_does_not_run() {
    [[ ${CAKE_SANITIZE:-} != thread ]] || skip "MPI does not run under ThreadSanitizer"
    [[ -x $program ]] || fail "there is no program $program"
}

# What makes waiting ranks give way on machines with few cores.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_WAIT_POLICY=passive
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none
