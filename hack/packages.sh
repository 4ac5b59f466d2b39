#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that the build and the tests need, or says which are missing.
#
#   packages.sh [realcluster]      realcluster: also what `make test-realcluster` runs its nodes with
set -euo pipefail

packages=(
    clang-19 llvm-19 clang-format-19 libbpf1 libbpf-dev bpftool   # the BPF programs
    libc6-dev python3-venv git
    nftables iproute2 conntrack procps util-linux openssl curl      # the node and its tests
    prometheus                                                     # reads the counters in the cluster tests
)
if [ "${1:-}" = realcluster ]; then
    packages+=(containerd runc containernetworking-plugins buildah mmdebstrap gcc)
fi

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing packages: install them with" >&2
    echo "    sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
