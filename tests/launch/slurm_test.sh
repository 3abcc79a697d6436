#!/usr/bin/env bash
# The job scripts of launch/slurm on a real Slurm, a cluster of its own for each case. Skipped (exit 77) where Slurm is not
# installed.
#
# usage: slurm_test.sh CASE
#   CASE   generate, site, batch, array, cancel, requeue, time_is_up, time_limit, singletons, exit_codes, dead_rank
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/launch/checks.sh
source "$here/checks.sh"

PATH=$PATH:/usr/sbin:/sbin  # where Debian has the daemons
for daemon in munged slurmctld slurmd sbatch srun; do
    command -v "$daemon" >/dev/null || skip "no $daemon: launch/setup.sh slurm-wlm munge"
done
skip_where_mpi_does_not_run

# Virtual nodes are one machine: what they have in common, memory and interfaces, must not pass for a shared host's.
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo
export CAKE_ROOT=$root CAKE_BIN=$program
unset "${!SBATCH_@}" CAKE_LAUNCHER CAKE_CONTAINER
on_tiny_model=(--model "$model" --cache-size 64 --window 16)
jobs_py=$here/jobs.py

submit() { sbatch --parsable --cpus-per-task=1 "$@"; }

# job_says ID KEY: a value of `scontrol show job`.
job_says() { scontrol show job -o "$1" | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1; }

is_over() { [[ $(job_says "$1" JobState) =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL)$ ]]; }

# expect_end ID STATE EXIT_CODE: within 2 minutes. The exit code as Slurm writes it, with the signal: 75:0.
expect_end() {
    if ! wait_until 120 is_over "$1"; then
        scontrol show job "$1" >&2
        fail "job $1 is $(job_says "$1" JobState) after 2 minutes"
    fi
    if [[ "$(job_says "$1" JobState) $(job_says "$1" ExitCode)" != "$2 $3" ]]; then
        tail -n 20 cake-*.log >&2
        fail "job $1: $(job_says "$1" JobState) $(job_says "$1" ExitCode) instead of $2 $3"
    fi
}

no_rank_is_left() { ! pgrep -f -- "--input $PWD/" >/dev/null; }

expect_no_rank_left() {
    wait_until 5 no_rank_is_left || fail "processes are left: $(pgrep -af -- "--input $PWD/")"
}

# submit_long_batch [--jobs N] [options of sbatch]: jobs of 200 tokens, one at a time, two ranks on two nodes.
submit_long_batch() {
    local n=80
    if [[ ${1:-} == --jobs ]]; then
        n=$2
        shift 2
    fi
    "$jobs_py" jobs "$n" 200 >jobs.jsonl
    submit -N 2 --ntasks-per-node=1 "$@" "$root/launch/slurm/multinode.sbatch" "${on_tiny_model[@]}" --max-batch 1 \
        --input "$PWD/jobs.jsonl" --output results.jsonl
}

test_generate() {
    "$jobs_py" prompt >prompt.json
    local arguments=("${on_tiny_model[@]}" --prompt-tokens prompt.json --max-new-tokens 8) launcher id
    "$program" generate "${arguments[@]}" --report one_rank.json >one_rank.txt
    for launcher in srun mpirun; do
        id=$(CAKE_LAUNCHER=$launcher submit -N 2 "$root/launch/slurm/generate.sbatch" "${arguments[@]}" \
            --report "$launcher.json")
        expect_end "$id" COMPLETED 0:0
        grep -Fxq -- "$(cat one_rank.txt)" "cake-$id.log" || fail "$launcher: another answer: $(tail -n 20 "cake-$id.log")"
        "$program" diff one_rank.json "$launcher.json"
        expect_line "$launcher.json" '"node1"'
        expect_line "$launcher.json" '"node2"'
    done
}

test_batch() {
    local id script launcher
    "$jobs_py" jobs 12 20 >jobs.jsonl
    "$program" batch "${on_tiny_model[@]}" --input jobs.jsonl --output one_rank.jsonl --quiet
    while read -r script launcher; do  # each has two replicas of two ranks
        id=$(CAKE_LAUNCHER=$launcher submit -N 2 --ntasks-per-node=2 -n 4 "$root/launch/slurm/$script.sbatch" \
            "${on_tiny_model[@]}" --input jobs.jsonl --output "$launcher-$script.jsonl")
        expect_end "$id" COMPLETED 0:0
        "$jobs_py" complete jobs.jsonl "$launcher-$script.jsonl"
        "$jobs_py" same one_rank.jsonl "$launcher-$script.jsonl"
    done <<<$'batch srun\nbatch mpirun\nmultinode srun'
}

# What launch/site.env says is done on the nodes.
test_site() {
    mkdir -p site/launch
    ln -s "$root/launch/slurm" "$root/launch/signals.sh" site/launch
    echo "export CAKE_CONTAINER='./container with' CAKE_BIN=$program" >site/launch/site.env
    # shellcheck disable=SC2016
    printf '#!/bin/sh\ntouch "$1_$SLURM_PROCID"\nshift\nexec "$@"\n' >container
    chmod +x container
    "$jobs_py" prompt >prompt.json
    expect_end "$(CAKE_ROOT=$PWD/site CAKE_BIN=nowhere submit -n 2 "$root/launch/slurm/generate.sbatch" \
        "${on_tiny_model[@]}" --prompt-tokens prompt.json --max-new-tokens 2)" COMPLETED 0:0
    [[ -e with_0 && -e with_1 ]] || fail "the ranks did not pass through the container"
}

test_array() {
    local id cell policies=""
    id=$(submit -n 1 "$root/launch/slurm/array.sbatch" --model "$model" --prompts 100 --new-tokens 2 --repeat 1 --warmup 0)
    for cell in 0 1 2 3; do
        expect_end "${id}_$cell" COMPLETED 0:0
        policies+=$(python3 -c 'import json, sys; row = json.loads(open(sys.argv[1]).readline())
print(row["policy"], row["cache_size"], end="; ")' "results/array/$cell/bench.jsonl")
    done
    expect_equal "$policies" "full 0; cake 256; cake 1024; snapkv 1024; " "cells of the array"
}

test_cancel() {
    local id before
    id=$(submit_long_batch)
    wait_until 30 has_lines results.jsonl 3 || fail "no results: $(tail -n 20 cake-*.log)"
    scancel "$id"
    wait_until 15 is_over "$id" || fail "job $id goes on"
    expect_equal "$(job_says "$id" JobState)" CANCELLED "state"
    expect_no_rank_left
    expect_equal "$(job_says "$id" Restarts)" 0 "a cancelled job stays so; restarts"
    before=$(wc -l <results.jsonl)
    (( before < 80 )) || fail "all was done before the job was cancelled"
    expect_end "$(submit_long_batch)" COMPLETED 0:0
    "$jobs_py" complete jobs.jsonl results.jsonl
}

# As Slurm does it for preemption, and where a node failed.
test_requeue() {
    local id
    id=$(submit_long_batch)
    wait_until 30 has_lines results.jsonl 3 || fail "no results: $(tail -n 20 cake-*.log)"
    scontrol requeue "$id"
    expect_end "$id" COMPLETED 0:0
    expect_equal "$(job_says "$id" Restarts)" 1 "restarts"
    "$jobs_py" complete jobs.jsonl results.jsonl
}

# The signal that #SBATCH --signal=B:USR1@... sends, but soon. Under mpirun, as time_limit has srun.
test_time_is_up() {
    local id
    id=$(CAKE_LAUNCHER=mpirun submit_long_batch)
    wait_until 30 has_lines results.jsonl 3 || fail "no results: $(tail -n 20 cake-*.log)"
    scancel --batch --signal=USR1 "$id"
    expect_end "$id" COMPLETED 0:0
    expect_equal "$(job_says "$id" Restarts)" 1 "restarts"
    expect_line "cake-$id.log" "stopped by a signal: start again with the same files to go on"
    "$jobs_py" complete jobs.jsonl results.jsonl
}

has_started_again() { [[ $(job_says "$1" Restarts) == 1 ]]; }

# The signal itself. A minute is the shortest limit; Slurm looks every 30 s, so the signal may come so much earlier than
# 25 s before the end, and not before cake has started.
test_time_limit() {
    local id
    id=$(submit_long_batch --jobs 5000 --time=1 --signal=B:USR1@25)
    wait_until 60 has_started_again "$id" || fail "the job was not queued again: $(tail -n 20 "cake-$id.log")"
    expect_line "cake-$id.log" "run.sh: stopped with work left .start 0.; queueing the job again"
}

test_singletons() {
    local status=0
    "$jobs_py" jobs 2 2 >jobs.jsonl
    srun --mpi=none -N 2 -n 2 "$program" batch "${on_tiny_model[@]}" --input jobs.jsonl --output results.jsonl \
        2>message.txt || status=$?
    expect_equal "$status" 2 "exit code of srun --mpi=none"
    expect_line message.txt 'srun --mpi=pmix'
    [[ ! -e results.jsonl ]] || fail "a task that took itself for the only one wrote results"
}

test_exit_codes() {
    local launcher
    "$jobs_py" jobs 2 2 >jobs.jsonl
    echo '{"id": "wrong"}' >>jobs.jsonl
    for launcher in srun mpirun; do
        export CAKE_LAUNCHER=$launcher
        expect_end "$(submit -N 2 "$root/launch/slurm/generate.sbatch" --model nowhere --prompt x)" FAILED 2:0
        expect_end "$(submit -N 2 -n 2 "$root/launch/slurm/batch.sbatch" "${on_tiny_model[@]}" --input jobs.jsonl \
            --output "$launcher.jsonl")" FAILED 3:0
    done
}

# The process of rank 1 of this case's job.
rank_1() {
    local pid
    for pid in $(pgrep -x cake); do
        grep -Ezq '^(PMIX_RANK|OMPI_COMM_WORLD_RANK)=1$' "/proc/$pid/environ" &&
            grep -Fzxq "$PWD/jobs.jsonl" "/proc/$pid/cmdline" && echo "$pid"
    done 2>/dev/null
    return 0
}

test_dead_rank() {
    local launcher id began_ms took_ms
    for launcher in srun mpirun; do
        rm -f results.jsonl
        id=$(CAKE_LAUNCHER=$launcher submit_long_batch)
        wait_until 30 has_lines results.jsonl 3 || fail "no results: $(tail -n 20 cake-*.log)"
        began_ms=$(date +%s%3N)
        kill -KILL "$(rank_1)"
        expect_end "$id" FAILED 137:0
        took_ms=$(( $(date +%s%3N) - began_ms ))
        echo "$launcher: $took_ms ms from the death of a rank to the end of the job"
        (( took_ms < 10000 )) || fail "$launcher: 5 s are the aim, and 10 s are too many"
        expect_no_rank_left
    done
}

# Also after a failure. Processes that outlive the cluster are a failure themselves.
clean_up() {
    local left
    "$here/slurm_cluster.sh" stop "$cluster"
    left=$("$here/slurm_cluster.sh" members "$cluster")
    rm -rf "$scratch"
    expect_equal "$left" "" "processes that are left"
}

case ${1:-} in
    generate | site | batch | array | cancel | requeue | time_is_up | time_limit | singletons | exit_codes | dead_rank) ;;
    *)
        echo "usage: slurm_test.sh CASE" >&2
        exit 2
        ;;
esac
scratch=$(mktemp -d /tmp/cake-slurm-test.XXXXXX)
cluster=$(mktemp -d /tmp/cake-slurm.XXXXXX)
trap clean_up EXIT
"$here/slurm_cluster.sh" start "$cluster"
export SLURM_CONF=$cluster/slurm.conf
[[ $(srun --mpi=list 2>&1) == *pmix* ]] || skip "this Slurm has no PMIx"
cd "$scratch"
"test_$1"
