#!/usr/bin/env bash
# Ranks on several hosts, which are network namespaces of this machine: answers are those of one host, and a link that is
# cut ends all ranks. Skipped (exit 77) where namespaces cannot be made.
#
# usage: hosts_test.sh two_hosts | three_hosts | replicas | cut_in_prefill | cut_in_decode
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/launch/checks.sh
source "$here/checks.sh"
# shellcheck source=tests/launch/hosts.sh
source "$here/hosts.sh"
skip_where_mpi_does_not_run
skip_where_hosts_cannot_be_made

jobs_py=$here/jobs.py
on_tiny_model=(--model "$model" --cache-size 64 --window 16 --threads 1)
deadline_s=3

# test_same HOSTS RANKS_OF_A_HOST
test_same() {
    make_hosts "$1"
    "$jobs_py" prompt >prompt.json
    local arguments=("${on_tiny_model[@]}" --prompt-tokens "$PWD/prompt.json" --max-new-tokens 32 --check) i
    "$program" generate "${arguments[@]}" --report one.json >one.txt
    on_hosts "$2" "$program" generate "${arguments[@]}" --report "$PWD/several.json" >several.txt
    cmp one.txt several.txt
    "$program" diff one.json several.json
    for (( i = 1; i <= $1; ++i )); do
        expect_line several.json "\"host$i\""
        (( $(bytes_sent_by "$i") > 100000 )) || fail "host$i sent $(bytes_sent_by "$i") bytes: the sums did not cross"
    done
}

test_replicas() {
    make_hosts 2
    "$jobs_py" jobs 8 20 >jobs.jsonl
    "$program" batch "${on_tiny_model[@]}" --input jobs.jsonl --output one.jsonl --quiet
    on_hosts 2 "$program" batch "${on_tiny_model[@]}" --set parallel.tensor=2 --input "$PWD/jobs.jsonl" \
        --output "$PWD/several.jsonl" --quiet
    "$jobs_py" complete jobs.jsonl several.jsonl
    "$jobs_py" same one.jsonl several.jsonl
}

no_rank_is_left() { [[ -z $(processes_on 1 cake)$(processes_on 2 cake) ]]; }
has_sent() { (( $(bytes_sent_by "$1") > $2 )); }
has_answered() { (( $(wc -w <answer.txt) >= 3 )); }

# test_cut PART RATE READY...: cuts the link of host2 when READY is true. Slow links make prompt and answer take seconds.
test_cut() {
    local part=$1 rate=$2 began_ms took_ms i
    shift 2
    make_hosts 2
    for i in 1 2; do slow_link "$i" "$rate"; done
    "$jobs_py" prompt >prompt.json
    on_hosts 2 "$program" generate "${on_tiny_model[@]}" --prompt-tokens "$PWD/prompt.json" --max-new-tokens 1500 \
        --ignore-eos --set comm.timeout_s=$deadline_s >answer.txt 2>messages.txt </dev/null &
    wait_until 30 "$@" || fail "it does not begin: $(cat messages.txt)"
    expect_equal "$(processes_on 1 cake | wc -l) $(processes_on 2 cake | wc -l)" "2 2" "ranks on the hosts"
    cut_link 2
    began_ms=$(date +%s%3N)
    wait_until $(( deadline_s + 10 )) no_rank_is_left || true
    took_ms=$(( $(date +%s%3N) - began_ms ))
    cat messages.txt
    no_rank_is_left || fail "ranks are left: host1 $(processes_on 1 cake), host2 $(processes_on 2 cake)"
    echo "$took_ms ms from the cut to the end of the last rank"
    (( took_ms <= (deadline_s + 5) * 1000 )) || fail "$took_ms ms, and the deadline is $deadline_s s"
    expect_line messages.txt "cake: error: rank [0-3] on host[12], $part.*: waits in (all-reduce|all-gather|sum|broadcast), call [0-9]+ of ranks 0, 1, 2, 3"
    expect_line messages.txt "Not heard of since: .*on host[12]"
}

clean_up() {
    cd /
    remove_hosts "$hosts_id"
    wait
    [[ -z $hosts_folder ]] || rm -rf "$hosts_folder"
    rm -rf "$scratch"
}

remove_hosts_of_the_dead
scratch=$(mktemp -d /tmp/cake-hosts-test.XXXXXX)
trap clean_up EXIT
trap 'exit 143' TERM INT
cd "$scratch"
case ${1:-} in
    two_hosts) test_same 2 2 ;;
    three_hosts) test_same 3 1 ;;
    replicas) test_replicas ;;
    # Starting takes some 100 KB, the 10 sums of the prompt 300 KB each.
    cut_in_prefill) test_cut prefill 4mbit has_sent 2 1200000 ;;
    cut_in_decode) test_cut decode 16mbit has_answered ;;
    *)
        echo "usage: hosts_test.sh two_hosts | three_hosts | replicas | cut_in_prefill | cut_in_decode" >&2
        exit 2
        ;;
esac
