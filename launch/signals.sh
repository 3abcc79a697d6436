# shellcheck shell=bash
# Signals for what runs under a script. To be sourced.

# run_passing_signals_on COMMAND...: runs a launcher of ranks, and returns its exit code. SIGTERM and SIGUSR1 reach it as
# SIGUSR1: mpirun answers SIGTERM by ending its ranks within a second or two, SIGUSR1 it passes on, and cake takes both
# for the wish to end in good order.
run_passing_signals_on() {
    local child status interrupted
    "$@" <&0 &
    child=$!
    trap 'interrupted=1; kill -USR1 "$child" 2>/dev/null || true' TERM USR1
    trap 'interrupted=1; kill -INT "$child" 2>/dev/null || true' INT
    while :; do
        interrupted=0 status=0
        wait "$child" || status=$?
        (( interrupted )) || break  # else it was the signal that ended the waiting
    done
    trap - TERM USR1 INT
    return "$status"
}
