# shellcheck shell=bash
# Hosts as network namespaces of this machine, each with its own address, name, /dev/shm and temporary folder, on one
# bridge. To be sourced, after checks.sh. What is made here has this process's number in its name.
hosts_id=cake-$$
hosts_network=10.213.$(( $$ % 250 ))
hosts_folder=
n_hosts=0

host_namespace() { echo "$hosts_id-host$1"; }

skip_where_hosts_cannot_be_made() {
    local command
    (( EUID == 0 )) || skip "network namespaces need root"
    for command in ip tc unshare mpirun; do
        command -v "$command" >/dev/null || skip "no $command: launch/setup.sh iproute2 util-linux openmpi-bin"
    done
    ip netns add "$hosts_id-try" 2>/dev/null || skip "network namespaces are not allowed here"
    ip netns del "$hosts_id-try"
}

# remove_hosts ID: processes first, then names.
remove_hosts() {
    local name
    for name in $(ip netns list | awk -v id="$1-" 'index($1, id) == 1 { print $1 }'); do
        ip netns pids "$name" | xargs -r kill -KILL 2>/dev/null || true
        ip netns del "$name" || true
        rm -rf "/etc/netns/$name"
    done
}

# What a run left that was killed before it could clean up.
remove_hosts_of_the_dead() {
    local id
    for id in $(ip netns list | grep -Eo '^cake-[0-9]+' | sort -u); do
        kill -0 "${id#cake-}" 2>/dev/null || remove_hosts "$id"
    done
}

# make_hosts N: host1 to hostN.
make_hosts() {
    local i name bridge=$hosts_id-bridge
    n_hosts=$1
    hosts_folder=$(mktemp -d /tmp/cake-hosts.XXXXXX)
    ip netns add "$bridge"
    ip -n "$bridge" link add bridge type bridge
    ip -n "$bridge" link set bridge up
    echo "127.0.0.1 localhost" >"$hosts_folder/hosts"
    for (( i = 1; i <= n_hosts; ++i )); do
        name=$(host_namespace "$i")
        ip netns add "$name"
        ip -n "$name" link set lo up
        ip -n "$name" link add eth0 type veth peer name "port$i" netns "$bridge"
        ip -n "$name" addr add "$hosts_network.$i/24" dev eth0
        ip -n "$name" link set eth0 up
        ip -n "$bridge" link set "port$i" master bridge up
        echo "$hosts_network.$i host$i" >>"$hosts_folder/hosts"
        mkdir -p "$hosts_folder/host$i"
    done
    for (( i = 1; i <= n_hosts; ++i )); do
        mkdir -p "/etc/netns/$(host_namespace "$i")"
        cp "$hosts_folder/hosts" "/etc/netns/$(host_namespace "$i")/hosts"  # `ip netns exec` lays it over /etc/hosts
    done
    write_remote_shell
}

# What mpirun takes for ssh: `remote_shell hostN COMMAND...`, perhaps with options before.
write_remote_shell() {
    cat >"$hosts_folder/remote_shell" <<END
#!/usr/bin/env bash
while [[ \$1 == -* ]]; do shift; done
host=\$1
shift
exec ip netns exec "$hosts_id-\$host" unshare --uts bash -c "
    hostname \$host
    mount -t tmpfs tmpfs /dev/shm
    export TMPDIR=$hosts_folder/\$host
    \$*"
END
    chmod +x "$hosts_folder/remote_shell"
}

# on_hosts RANKS_OF_A_HOST COMMAND...: mpirun on host1, ranks on all hosts.
on_hosts() {
    local list="" i ranks=$1
    shift
    for (( i = 1; i <= n_hosts; ++i )); do list+=${list:+,}host$i:$ranks; done
    "$hosts_folder/remote_shell" host1 exec mpirun --mca plm rsh --mca plm_rsh_agent "$hosts_folder/remote_shell" \
        --mca ras ^slurm --mca pml ob1 --mca btl self,vader,tcp --mca btl_tcp_if_include eth0 \
        --mca oob_tcp_if_include eth0 --mca orte_execute_quiet 1 --host "$list" -n $(( n_hosts * ranks )) "$(printf '%q ' "$@")"
}

# Processes of a name on a host.
processes_on() {
    local pid
    for pid in $(ip netns pids "$(host_namespace "$1")"); do
        if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$2" ]]; then echo "$pid"; fi
    done
}

# slow_link HOST RATE: all that the host sends, at most so fast. RATE as tc has it: 2mbit.
slow_link() {
    tc -n "$(host_namespace "$1")" qdisc add dev eth0 root tbf rate "$2" burst 32kb latency 10s
}
cut_link() { ip -n "$(host_namespace "$1")" link set eth0 down; }
bytes_sent_by() { ip netns exec "$(host_namespace "$1")" cat /sys/class/net/eth0/statistics/tx_bytes; }
