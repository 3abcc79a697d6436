# shellcheck shell=bash
# What the job scripts beside this one share: the settings of the site, run_cake, and going on later. To be sourced.
#
# CAKE_ROOT=FOLDER       this repository; default: the folder where sbatch was called
# CAKE_LAUNCHER=srun     or mpirun: how ranks are started
# CAKE_BIN=PATH          another program than build/release/cake
# CAKE_CONTAINER=WORDS   what stands before the program, as `apptainer exec --nv cake.sif`

root=${CAKE_ROOT:-$SLURM_SUBMIT_DIR}
# shellcheck source=launch/signals.sh
source "$root/launch/signals.sh"
if [[ -f $root/launch/site.env ]]; then
    # shellcheck source=launch/site.env.example
    source "$root/launch/site.env"
fi

# run_cake COMMAND [arguments]: cake on all tasks of the job. Returns its exit code. A command is a word, or two (eval needle).
run_cake() {
    local launcher command=() cpus=${SLURM_CPUS_PER_TASK:-1}
    while (( $# > 0 )) && [[ $1 != -* ]]; do
        command+=("$1")
        shift
    done
    case ${CAKE_LAUNCHER:-srun} in
        # --mpi=pmix: without it each task would be a run of its own. --wait: seconds that the others get to end once a
        # task has ended. Ranks that are well end together; --kill-on-bad-exit would kill some of them on the way, and
        # the job's exit code were 143 instead of cake's.
        srun) launcher=(srun --mpi=pmix --kill-on-bad-exit=0 --wait=3 --cpus-per-task="$cpus") ;;
        mpirun) launcher=(mpirun -n "$SLURM_NTASKS" --bind-to none) ;;
        *)
            echo "run.sh: CAKE_LAUNCHER is '$CAKE_LAUNCHER'; there are srun and mpirun." >&2
            return 2
            ;;
    esac
    # CAKE_CONTAINER is several words. A --threads of the caller's wins over engine.threads here.
    # shellcheck disable=SC2086
    run_passing_signals_on "${launcher[@]}" ${CAKE_CONTAINER:-} "${CAKE_BIN:-$root/build/release/cake}" \
        "${command[@]}" --set engine.threads="$cpus" "$@"
}

# run_cake_to_the_end COMMAND [arguments]: for commands that go on where they stopped. Where time is almost up (SIGUSR1,
# from #SBATCH --signal) and work is left, the job is queued again; not where somebody cancels it, since it is no longer
# running then. Ends the script with cake's exit code.
run_cake_to_the_end() {
    local status=0
    run_cake "$@" || status=$?
    if (( status == 75 )) && [[ $(squeue -h -j "$SLURM_JOB_ID" -o %T) == RUNNING ]]; then
        echo "run.sh: stopped with work left (start ${SLURM_RESTART_COUNT:-0}); queueing the job again" >&2
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$status"
}
