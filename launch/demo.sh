#!/usr/bin/env bash
# The first result: installs what is missing, builds, fetches a small real model, and
# answers a question about 4,000 tokens of a novel on 2 ranks, with a KV cache that CAKE
# cuts to 256 entries per layer on average. The program prints the budget of each layer,
# the bytes kept against those of a full cache, and tokens/s; all of it is also in
# build/demo/report.json.
#
# usage: launch/demo.sh [arguments of cake generate]
#   e.g. launch/demo.sh --cache-size 512
# CAKE_DEMO_RANKS=N   number of ranks (default 2, one thread each)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

bash "$root/launch/setup.sh"
bash "$root/launch/build.sh" release
model=$(bash "$root/launch/get_model.sh" smollm2)
mkdir -p "$root/build/demo"

options=("$@")

# default FLAG VALUE: used unless the user's own arguments have FLAG. With a third
# argument, unless they have a flag that begins so.
default() {
    case " $user_arguments " in
        *" ${3:-$1 }"* | *" $1="*) ;;
        *) options+=("$1" "$2") ;;
    esac
}
user_arguments=$*

default --model "$model"
default --backend cpu  # two ranks on any machine; a GPU takes one
default --policy cake
default --cache-size 256
default --max-new-tokens 64
default --threads 1
default --prompt-file "$root/launch/demo/prompt.txt" --prompt
default --report "$root/build/demo/report.json"

# It is a demo: it runs on a machine with fewer cores than ranks as well.
export CAKE_OVERSUBSCRIBE="${CAKE_OVERSUBSCRIBE:-1}"
exec bash "$root/launch/mpirun.sh" "${CAKE_DEMO_RANKS:-2}" generate --show-budgets "${options[@]}"
