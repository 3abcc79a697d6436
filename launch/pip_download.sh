#!/usr/bin/env bash
# Puts the wheels of PyPI packages into a folder, without what they depend on.
#
# usage: launch/pip_download.sh FOLDER [arguments of pip download] PACKAGE...
# exit:  0 done, 1 there is no pip, or it brought nothing
set -euo pipefail

folder=$1
shift

# setup.sh installs pip for Debian's own Python; another python3 may come first in PATH.
for python in python3 /usr/bin/python3; do
    if "$python" -m pip --version >/dev/null 2>&1; then
        exec "$python" -m pip download --quiet --disable-pip-version-check --no-cache-dir --retries 2 --no-deps \
            --only-binary=:all: --dest "$folder" "$@" </dev/null >&2
    fi
done
echo "pip_download: python3 has no pip; launch/setup.sh installs it (Debian package python3-pip)" >&2
exit 1
