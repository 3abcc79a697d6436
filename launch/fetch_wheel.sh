#!/usr/bin/env bash
# Fetches one wheel of PyPI, sees that it is the expected one, and unpacks it.
#
# usage: launch/fetch_wheel.sh FOLDER SHA256 PACKAGE==VERSION [arguments of pip download]
# exit:  0 done, 1 it could not be downloaded, or is another file: said on stderr
set -euo pipefail

folder=$1 sha256=$2 package=$3
shift 3

if ! bash "$(dirname "${BASH_SOURCE[0]}")/pip_download.sh" "$folder" "$@" "$package"; then
    echo "fetch_wheel: could not download $package" >&2
    exit 1
fi
wheel=("$folder"/*.whl)
if ! echo "$sha256  ${wheel[0]}" | sha256sum --check --status; then
    echo "fetch_wheel: what $package brought is not the expected file: its SHA-256 is not $sha256" >&2
    exit 1
fi
python3 -m zipfile -e "${wheel[0]}" "$folder"
