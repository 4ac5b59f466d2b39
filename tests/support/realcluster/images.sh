#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the images of the real-cluster test without a registry and without a container engine, and prints the paths
# of two docker archives: the sandbox's pause, and the project's image.
#
# The image is the Dockerfile's, unchanged: its base is made here by mmdebstrap and stands in under the name that the
# Dockerfile asks for. Needs root, buildah, mmdebstrap and gcc. Cold it takes some minutes; warm, seconds: buildah
# knows layers by what goes into them, and an archive bears the id of its image, so checkouts share one cache.
#
#   XDG_CACHE_HOME    images lie in ${XDG_CACHE_HOME:-~/.cache}/wildcard-operator/images
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wildcard-operator/images
base=docker.io/library/debian:bookworm-slim
image=localhost/wildcard-operator:test
store_mib=6000 # past this buildah's store is thrown away, with the layers of former checkouts

# All of it runs in namespaces that end with this script, so a killed run leaves no process and no mount.
if [ "${1:-}" != inside ]; then
    setpriv --pdeathsig KILL -- unshare --fork --kill-child --pid --mount-proc --mount --propagation private -- \
        "$here/$(basename "$0")" inside
    exit
fi

# What this script and pause.c make is made anew when they change.
out=$cache/$(cat "$0" "$here/pause.c" | sha256sum | cut -c1-12)
mkdir -p "$out/context" "$out/store"
exec 9>"$cache/.lock"
flock 9
touch "$out"
find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +7 -exec rm -rf {} +
find "$out" -maxdepth 1 -name '*.tar' -mtime +7 -delete

run_buildah() {
    buildah --root "$out/store" --runroot "$out/run" --storage-driver overlay "$@"
}

bud() {
    run_buildah bud --quiet --isolation chroot --pull-never --layers "$@"
}

# The whole archive appears at once: a run that is killed leaves no half of it.
save() { # IMAGE FILE
    if [ ! -f "$2" ]; then
        rm -f "$out/.new"
        run_buildah push --quiet "$1" "docker-archive:$out/.new:$1" >&2
        mv "$out/.new" "$2"
    fi
    touch "$2"
    echo "$2"
}

if [ ! -f "$out/pause.tar" ]; then
    gcc -Os -static -s -Wall -Werror -o "$out/context/pause" "$here/pause.c"
    printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' >"$out/context/Dockerfile.pause"
    bud -f "$out/context/Dockerfile.pause" -t localhost/pause:1 "$out/context" >/dev/null
fi
save localhost/pause:1 "$out/pause.tar"

if [ ! -f "$out/context/base.tar" ]; then
    # shellcheck disable=SC2016  # mmdebstrap's shell expands $1
    mmdebstrap --quiet --variant=minbase --mode=root --format=tar \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Acquire::Languages "none"' \
        --customize-hook='rm -f "$1/etc/resolv.conf" "$1/etc/hostname"' bookworm "$out/context/base.new"
    mv "$out/context/base.new" "$out/context/base.tar"
fi
[ "$(du -sm "$out/store" | cut -f1)" -lt "$store_mib" ] || rm -rf "$out/store"
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
save "$image" "$out/${id:0:12}.tar"
