#!/usr/bin/env bash
# A private Slurm cluster on this machine: munge, slurmctld and two virtual nodes, all on loopback, all state in one
# folder. Nothing of the system's own configuration is read or changed.
#
# usage: slurm_cluster.sh start FOLDER | stop FOLDER
# FOLDER's path has to be short: a socket's name takes at most 107 bytes. `export SLURM_CONF=FOLDER/slurm.conf` afterwards.
# The cluster ends by itself when the process that called `start` has ended, or after 15 minutes.
set -euo pipefail

folder=${2:?usage: slurm_cluster.sh start FOLDER | stop FOLDER}
nodes=2
cpus=2
export SLURM_CONF=$folder/slurm.conf

free_ports() {
    python3 - "$1" <<'PYTHON'
import socket
import sys

sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))
PYTHON
}

write_configuration() {
    local user host ports i
    user=$(id -un)
    host=$(hostname -s)
    read -ra ports <<<"$(free_ports $(( nodes + 1 )))"
    # cred_expire: a job that is queued again waits until its old credentials have expired, 2 minutes by default.
    # TmpFS: where PMIx has its sockets; nodes that shared /tmp would take each other's.
    # CR_CPU with config_overrides: nodes have the CPUs that are written here, whatever the machine has.
    cat <<END
ClusterName=cake
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
TmpFS=$folder/tmp/%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=3
CompleteWait=0
MinJobAge=600
MailProg=/bin/true
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=1
END
    for (( i = 1; i <= nodes; ++i )); do
        echo "NodeName=node$i NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[i]} CPUs=$cpus RealMemory=2000"
    done
    echo "PartitionName=main Nodes=node[1-$nodes] Default=YES MaxTime=INFINITE State=UP"
}

all_nodes_idle() { (( $(sinfo -h -N -o %T 2>/dev/null | grep -c '^idle$') == nodes )); }

start() {
    local i caller=$PPID
    mkdir -p "$folder"/{run,state,log}
    for (( i = 1; i <= nodes; ++i )); do mkdir -p "$folder"/{spool,tmp}/"node$i"; done
    chmod 755 "$folder"  # munge insists
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    write_configuration >"$SLURM_CONF"
    echo "CgroupPlugin=cgroup/v1" >"$folder/cgroup.conf"

    # First of all what ends the cluster, whatever becomes of this script and of its caller.
    setsid "$0" stop_after "$folder" "$caller" </dev/null >/dev/null 2>&1 &

    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/run/munged.pid" \
        --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed" --num-threads=2 >"$folder/log/munged.err" 2>&1 || return
    slurmctld -f "$SLURM_CONF" >"$folder/log/slurmctld.err" 2>&1 || return
    for (( i = 1; i <= nodes; ++i )); do
        slurmd -f "$SLURM_CONF" -N "node$i" >"$folder/log/slurmd.node$i.err" 2>&1 || return
    done
    for (( i = 0; i < 100; ++i )); do
        all_nodes_idle && return
        sleep 0.1
    done
    echo "slurm_cluster.sh: the nodes did not come up in 10 s" >&2
    return 1
}

# Processes that carry this cluster's configuration in their environment: daemons, and all that they started. Not
# scripts that call this one.
members() {
    local environment pid
    for environment in /proc/[0-9]*/environ; do
        pid=${environment//[^0-9]/}
        { tr '\0' '\n' <"$environment" | grep -Fxq "SLURM_CONF=$SLURM_CONF"; } 2>/dev/null || continue
        if grep -Eq '^(slurm|munged|srun|mpirun|orted|cake)' "/proc/$pid/comm" 2>/dev/null; then echo "$pid"; fi
    done
}

stop() {
    local i pids
    [[ -d $folder ]] || return 0
    if kill -0 "$(cat "$folder/run/slurmctld.pid" 2>/dev/null)" 2>/dev/null; then
        timeout 10 scancel --user="$(id -un)" >/dev/null 2>&1 || true
        for (( i = 0; i < 150; ++i )); do
            [[ -z $(timeout 5 squeue -h 2>/dev/null) ]] && break
            sleep 0.1
        done
    fi
    pids=$(cat "$folder"/run/*.pid 2>/dev/null) || true
    # shellcheck disable=SC2086
    [[ -z $pids ]] || kill $pids 2>/dev/null || true
    for (( i = 0; i < 50; ++i )); do
        pids=$(members)
        [[ -z $pids ]] && break
        sleep 0.1
    done
    # shellcheck disable=SC2086
    [[ -z $pids ]] || kill -KILL $pids 2>/dev/null || true
    rm -rf "$folder"
}

stop_after() {
    local caller=$1
    for (( i = 0; i < 900; ++i )); do
        [[ -d $folder ]] || return 0
        kill -0 "$caller" 2>/dev/null || break
        sleep 1
    done
    stop
}

case $1 in
    start) start || { tail -n 5 "$folder"/log/* >&2; stop; exit 1; } ;;
    stop) stop ;;
    members) members ;;
    stop_after) stop_after "$3" ;;
    *) echo "usage: slurm_cluster.sh start FOLDER | stop FOLDER" >&2; exit 2 ;;
esac
