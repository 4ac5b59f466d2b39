#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The image's entry point: `operator`, `agent` or `ctl`, and the options of that command.
set -eu
part=$1
shift
case $part in
    operator | agent) exec "wildcard-$part" "$@" ;;
    ctl) exec wildcardctl "$@" ;;
    *)
        echo "say operator, agent or ctl, not $part" >&2
        exit 64
        ;;
esac
