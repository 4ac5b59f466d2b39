#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the images of the real-cluster test without a registry and without a container engine:
#
#   images.sh OUT      OUT/pause.tar and OUT/wildcard-operator.tar, docker archives
#
# The image is the Dockerfile's, unchanged: its base is made here by mmdebstrap and stands in under the name
# that the Dockerfile asks for. Needs root, buildah, mmdebstrap and gcc. What didn't change is taken from OUT.
set -euo pipefail

out=$(realpath -m "${1:?folder for the archives}")
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
base=docker.io/library/debian:bookworm-slim
image=localhost/wildcard-operator:test

mkdir -p "$out/context"
exec 9>"$out/.lock"
flock 9

bud() {
    buildah --root "$out/store" --runroot "$out/run" --storage-driver overlay \
        bud --quiet --isolation chroot --pull-never --layers "$@"
}

# The whole archive is replaced at once: a run that is killed leaves no half of it.
save() { # IMAGE FILE
    rm -f "$out/$2.new"
    buildah --root "$out/store" --runroot "$out/run" --storage-driver overlay \
        push --quiet "$1" "docker-archive:$out/$2.new:$1"
    mv "$out/$2.new" "$out/$2"
}

if [ ! -f "$out/pause.tar" ]; then
    gcc -Os -static -s -Wall -Werror -o "$out/context/pause" "$here/pause.c"
    printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' >"$out/context/Dockerfile.pause"
    bud -f "$out/context/Dockerfile.pause" -t localhost/pause:1 "$out/context" >/dev/null
    save localhost/pause:1 pause.tar
fi

if [ ! -f "$out/context/base.tar" ]; then
    # shellcheck disable=SC2016  # mmdebstrap's shell expands $1
    mmdebstrap --quiet --variant=minbase --mode=root --format=tar \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Acquire::Languages "none"' \
        --customize-hook='rm -f "$1/etc/resolv.conf" "$1/etc/hostname"' bookworm "$out/context/base.new"
    mv "$out/context/base.new" "$out/context/base.tar"
fi
printf 'FROM scratch\nADD base.tar /\nCMD ["bash"]\n' >"$out/context/Dockerfile.base"
bud -f "$out/context/Dockerfile.base" -t "$base" "$out/context" >/dev/null

# Where the machine has authorities and pip settings of its own, they are mounted while it builds, never copied in.
mounts=()
if [ -f /etc/pip.conf ]; then
    sed 's#^cert *=.*#cert = /etc/machine-ca.crt#' /etc/pip.conf >"$out/context/pip.conf"
    mounts+=(-v "$out/context/pip.conf:/etc/pip.conf:ro")
    mounts+=(-v /etc/ssl/certs/ca-certificates.crt:/etc/machine-ca.crt:ro)
fi
id=$(bud --network host "${mounts[@]}" -t "$image" "$root")
if [ "$(cat "$out/.image" 2>/dev/null)" != "$id" ] || [ ! -f "$out/wildcard-operator.tar" ]; then
    save "$image" wildcard-operator.tar
    echo "$id" >"$out/.image"
fi
