#!/usr/bin/env bash
# launch/mpirun.sh: what it refuses, what it allows when asked, and that exit codes pass through.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/launch/checks.sh
source "$here/checks.sh"
skip_where_mpi_does_not_run

export CAKE_BIN=$program
unset OMPI_MCA_rmaps_base_oversubscribe  # ctest's
cores=$(lscpu --parse=core,socket | grep -v '^#' | sort -u | wc -l)
(( $(nproc) >= cores )) || cores=$(nproc)
scratch=$(mktemp -d /tmp/cake-mpirun-test.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
"$here/jobs.py" prompt >prompt.json

# expect_exit CODE PATTERN [ARGUMENTS of mpirun.sh]: and a line of what it says.
expect_exit() {
    local status=0
    "$root/launch/mpirun.sh" "${@:3}" >said.txt 2>&1 </dev/null || status=$?
    expect_line said.txt "$2"
    expect_equal "$status" "$1" "exit code of mpirun.sh ${*:3}"
}

too_many=$(( cores + 1 ))
expect_exit 2 "must be the number of ranks, not 'generate'" generate
expect_exit 2 "$too_many ranks find $cores cores: start fewer, or set CAKE_OVERSUBSCRIBE=1" "$too_many" version
CAKE_BIND=1 CAKE_OVERSUBSCRIBE=1 expect_exit 2 "CAKE_BIND=1, and $too_many ranks find $cores cores" "$too_many" version
CAKE_OVERSUBSCRIBE=1 expect_exit 0 "^cake +[0-9]" "$too_many" version
CAKE_BIN=nowhere expect_exit 2 "there is no program nowhere; launch/build.sh builds it" 1 version
expect_exit 2 "there is no such model file or folder" 1 generate --model nowhere --prompt x
CAKE_BIND=1 expect_exit 0 "^[0-9 ]+$" 1 generate --model "$model" --cache-size 64 --window 16 \
    --prompt-tokens prompt.json --max-new-tokens 4 --report report.json
expect_line report.json "\"threads\": $cores"
