#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the real Kubernetes tools that the tests run, from Go modules, and prints the folder they are in.
#
#   build.sh [TOOL...]    the named tools, else all of them
#
# Versions are pinned by */go.mod and go.sum beside this script: -mod=readonly fails on any drift. A tool is built again
# only when its pins, the flags or Go changed; where KUBEBUILDER_ASSETS holds a tool that this script didn't build, that
# one is taken as it is. Cold, the whole set takes ten minutes and 5 GB of Go's build cache; warm, nothing.
#
#   KUBERNETES            another version of Kubernetes than the pinned one, like 1.32.2: its module is derived from the
#                         pinned one's, and checked by Go's checksum database instead of go.sum
#   KUBEBUILDER_ASSETS    the folder; default ${XDG_CACHE_HOME:-~/.cache}/wildcard-operator/kube-tools[-KUBERNETES]
#   JOBS                  packages compiled at once; default 2
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=${KUBEBUILDER_ASSETS:-${XDG_CACHE_HOME:-$HOME/.cache}/wildcard-operator/kube-tools${KUBERNETES:+-$KUBERNETES}}
tools=("$@")
[ ${#tools[@]} -gt 0 ] ||
    tools=(etcd kube-apiserver kubectl kube-controller-manager helm kube-scheduler kubelet kube-proxy)

# Everything that would change a byte of the result is fixed; the module proxy is the machine's own setting.
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOTOOLCHAIN=local GOWORK=off GOAMD64=v1 GOEXPERIMENT=

version() { # FOLDER MODULE
    sed -n "s#^.*$2 \(v[0-9.]*\)\( // indirect\)*\$#\1#p" "$1/go.mod" | head -1
}

# The folder of Kubernetes' module. For a version that is not pinned it is made: the pinned one's commands and
# replacements, and what else this version asks for.
kubernetes() {
    local pinned derived=$out/kubernetes
    pinned=$(version "$here/kubernetes" k8s.io/kubernetes)
    if [ "v${KUBERNETES:-${pinned#v}}" = "$pinned" ]; then
        echo "$here/kubernetes"
        return
    fi
    if [ ! -e "$derived/go.sum" ]; then
        mkdir -p "$derived"
        awk '/^require/ {skip = 1} !skip {print} /^\)/ {skip = 0}' "$here/kubernetes/go.mod" |
            sed "s#v0${pinned#v1}\$#v0.${KUBERNETES#1.}#" >"$derived/go.mod"
        echo "require k8s.io/kubernetes v$KUBERNETES" >>"$derived/go.mod"
        (cd "$derived" && GOFLAGS='' go mod tidy) >&2
    fi
    echo "$derived"
}

# Sets folder, package and flags for a tool.
describe() { # TOOL
    local component=k8s.io/component-base/version pinned
    case $1 in
        kube-apiserver | kube-controller-manager | kube-scheduler | kubectl | kubelet | kube-proxy)
            folder=$(kubernetes)
            pinned=$(version "$folder" k8s.io/kubernetes)
            package=k8s.io/kubernetes/cmd/$1
            flags="-X $component.gitVersion=$pinned -X $component.gitMajor=1"
            flags+=" -X $component.gitMinor=$(cut -d. -f2 <<<"$pinned") -X $component.gitTreeState=clean"
            flags+=" -X $component.gitCommit=unknown -X $component.buildDate=1970-01-01T00:00:00Z" ;;
        etcd) folder=$here/etcd package=go.etcd.io/etcd/server/v3 flags= ;;
        helm)
            folder=$here/helm package=helm.sh/helm/v4/cmd/helm
            flags="-X helm.sh/helm/v4/internal/version.version=$(version "$here/helm" helm.sh/helm/v4)" ;;
        *) echo "no such tool: $1" >&2; exit 2 ;;
    esac
    flags="-s -w $flags"
}

key() {
    { cat "$folder/go.mod" "$folder/go.sum"; echo "$package $flags"; go version; } | sha256sum | cut -d' ' -f1
}

is_there() { # TOOL
    [ -x "$out/$1" ] || return 1
    [ -e "$out/.$1.stamp" ] || return 0 # somebody else's
    command -v go >/dev/null || return 0 # built by this script, on a machine that has lost its Go
    describe "$1"
    [ "$(cat "$out/.$1.stamp")" = "$(key)" ]
}

build() { # TOOL
    local started=$SECONDS
    command -v go >/dev/null || { echo "building $1 needs Go 1.26 or later on PATH" >&2; exit 1; }
    describe "$1"
    # Without -buildvcs=false the surrounding checkout's commit goes into the binary.
    (cd "$folder" &&
        go build -p "${JOBS:-2}" -trimpath -buildvcs=false -ldflags "$flags" -o "$out/.$1.new" "$package")
    key >"$out/.$1.stamp"
    mv "$out/.$1.new" "$out/$1"
    echo "$1: built in $((SECONDS - started)) s" >&2
}

mkdir -p "$out"
for tool in "${tools[@]}"; do
    is_there "$tool" && continue
    # Of two runs at once the second waits, and then finds the tool.
    exec 9>"$out/.lock"
    flock 9
    is_there "$tool" || build "$tool"
    exec 9>&-
done
echo "$out"
