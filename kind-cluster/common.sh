# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts of this folder share. To be sourced.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cluster=${CLUSTER:-wildcard}
namespace=wildcard-operator
# Both are used by the scripts that source this one.
export here root namespace

need() { # COMMAND...
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || { echo "$command is missing" >&2; exit 1; }
    done
}

is_up() {
    kind get clusters 2>/dev/null | grep -qx "$cluster"
}

# The user's current context stays what it is.
k() {
    kubectl --context "kind-$cluster" "$@"
}
