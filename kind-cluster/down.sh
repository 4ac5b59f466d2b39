#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Deletes the cluster that up.sh made; without one it does nothing.
set -euo pipefail
# shellcheck source=kind-cluster/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need kind

if is_up; then
    kind delete cluster --name "$cluster"
fi
