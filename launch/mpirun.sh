#!/usr/bin/env bash
# Runs cake on N ranks of this machine.
#
# usage: launch/mpirun.sh N [arguments of cake]
#   e.g. launch/mpirun.sh 2 generate --model model.gguf --prompt "Hello"
# CAKE_BIN=PATH          another program than build/release/cake
# CAKE_OVERSUBSCRIBE=1   allows more ranks than cores
# CAKE_BIND=1            ties each rank to cores of its own, an equal share: for a machine that has nothing else to do
# GPUs are dealt by cake itself, one to each rank (docs/interface.md, engine.share_gpu).
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
# shellcheck source=launch/signals.sh
source "$root/launch/signals.sh"

give_up() { echo "mpirun.sh: $1" >&2; exit 2; }

cores=$(lscpu --parse=core,socket | grep -v '^#' | sort -u | wc -l)
(( $(nproc) >= cores )) || cores=$(nproc)  # this process may not use all
options=(-n "$ranks")

# Open MPI refuses this too, but env.sh keeps mpirun quiet.
if [[ ${CAKE_OVERSUBSCRIBE:-0} == 1 ]]; then
    options+=(--oversubscribe)
elif (( ranks > cores )) && [[ -z ${OMPI_MCA_rmaps_base_oversubscribe:-}${OMPI_MCA_orte_default_hostfile:-} ]]; then
    give_up "$ranks ranks find $cores cores: start fewer, or set CAKE_OVERSUBSCRIBE=1 (slow)."
fi

if [[ ${CAKE_BIND:-0} == 1 ]]; then
    (( ranks <= cores )) || give_up "CAKE_BIND=1, and $ranks ranks find $cores cores: start fewer, or do not bind them."
    options+=(--map-by "slot:PE=$(( cores / ranks ))" --bind-to core)
    # engine.threads: auto shares what a rank may use with the others of its host, and here it need not.
    case ${1:-} in generate | batch | bench) set -- "$1" --set engine.threads="$(( cores / ranks ))" "${@:2}" ;; esac
fi

# A rank's stderr is a pipe to mpirun; only here is it known that a person looks.
[[ -t 2 ]] && options+=(-x CAKE_PROGRESS=1)

run_passing_signals_on mpirun "${options[@]}" "$program" "$@"
