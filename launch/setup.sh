#!/usr/bin/env bash
# Installs the Debian packages that the build, the tests and the demo need, and only
# those that are missing. Where all are there it does nothing and prints nothing.
#
# usage: launch/setup.sh [PACKAGE...]
#        launch/setup.sh --cudnn-frontend | --cuobjdump
#   PACKAGE            these instead
#   --cudnn-frontend   fetches the headers that a build with cuDNN needs (PyPI, 12 MB, Apache-2.0 and MIT) into
#                      build/cudnn-frontend, where CMake finds them; nothing else is installed
#   --cuobjdump        fetches the tool that a test asks for kernels' registers (PyPI, 0.3 MB, NVIDIA's licence) into
#                      build/cuobjdump; nothing else is installed
# exit:  0 all there, 2 some are missing and may not be installed from here, 1 headers or tool could not be fetched
# CAKE_SKIP_SETUP=1 skips the check, for machines that have the libraries by other means.
set -euo pipefail

if [[ ${1:-} == --cudnn-frontend ]]; then
    exec bash "$(dirname "${BASH_SOURCE[0]}")/get_cudnn_frontend.sh"
elif [[ ${1:-} == --cuobjdump ]]; then
    exec bash "$(dirname "${BASH_SOURCE[0]}")/get_cuobjdump.sh"
fi

packages=(
    cmake ninja-build g++ pkgconf                # build
    openmpi-bin libopenmpi-dev                   # ranks
    libdnnl-dev ocl-icd-opencl-dev               # linear layers (its CMake file asks for OpenCL)
    libyaml-cpp-dev libcli11-dev                 # configuration, command line
    nlohmann-json3-dev                           # config.json, jobs, reports
    libspdlog-dev libfmt-dev                     # logging
    libpcre2-dev libutf8proc-dev                 # tokenizers
    libgtest-dev libgmock-dev                    # tests
    python3 python3-pip                          # demo model, test summary
)

(( $# > 0 )) && packages=("$@")

[[ ${CAKE_SKIP_SETUP:-0} == 1 ]] && exit 0

# Says on stderr what a person has to install, and stops.
give_up() {
    {
        echo "setup: $1"
        echo "setup: please install, as an administrator:"
        echo "    apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
        echo "setup: or set CAKE_SKIP_SETUP=1 if these are there by other means."
    } >&2
    exit 2
}

missing=("${packages[@]}")
command -v dpkg-query >/dev/null || give_up "this is not a Debian system (no dpkg-query)."

# One line "STATUS NAME" for each package that dpkg has heard of; it complains about the others.
states=$'\n'$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)$'\n'

missing=()
for package in "${packages[@]}"; do
    [[ $states == *$'\n'"installed $package"$'\n'* ]] || missing+=("$package")
done
(( ${#missing[@]} == 0 )) && exit 0

if (( EUID == 0 )); then
    as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
else
    give_up "packages are missing, and this user may not install them."
fi

# Hundreds of lines about unpacking help nobody, unless it fails. Another apt may be at
# work: wait for its lock.
apt_get() {
    local log
    log=$("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=300 "$@" </dev/null 2>&1) && return
    echo "$log" >&2
    return 1
}

echo "setup: installing ${missing[*]}" >&2
apt_get update || give_up "apt-get update failed."
apt_get install -y --no-install-recommends "${missing[@]}" || give_up "apt-get install failed."
