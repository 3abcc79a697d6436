#!/usr/bin/env bash
# Runs cake on N ranks of this machine.
#
# usage: launch/mpirun.sh N [arguments of cake]
#   e.g. launch/mpirun.sh 2 generate --model model.gguf --prompt "Hello"
# CAKE_BIN=PATH          another program than build/release/cake
# CAKE_OVERSUBSCRIBE=1   allows more ranks than cores
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${CAKE_BIN:-$root/build/release/cake}

if [[ ! ${1:-} =~ ^[1-9][0-9]*$ ]]; then
    echo "mpirun.sh: the first argument must be the number of ranks, not '${1:-}'." >&2
    echo "usage: launch/mpirun.sh N [arguments of cake]" >&2
    exit 2
fi
ranks=$1
shift

if [[ ! -x $program ]]; then
    echo "mpirun.sh: there is no program $program; launch/build.sh builds it." >&2
    exit 2
fi

# shellcheck source=launch/env.sh
source "$root/launch/env.sh"

options=(-n "$ranks")
[[ ${CAKE_OVERSUBSCRIBE:-0} == 1 ]] && options+=(--oversubscribe)

# A rank's stderr is a pipe to mpirun; only here is it known that a person looks.
[[ -t 2 ]] && options+=(-x CAKE_PROGRESS=1)

# mpirun answers SIGTERM by ending its ranks within a second or two; SIGUSR1 it passes on, and cake takes both for the
# wish to end in good order.
mpirun "${options[@]}" "$program" "$@" <&0 &
child=$!
pass_on() { interrupted=1; kill "-$1" "$child" 2>/dev/null || true; }
trap 'pass_on USR1' TERM USR1
trap 'pass_on INT' INT
while :; do
    interrupted=0 status=0
    wait "$child" || status=$?
    (( interrupted )) || exit "$status"
done
