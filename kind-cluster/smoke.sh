#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Asks a cluster of up.sh whether it enforces: `helm test`, and a filter whose drops must be counted.
set -euo pipefail
# shellcheck source=kind-cluster/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need kind kubectl helm
is_up || { echo "there is no cluster $cluster: run up.sh" >&2; exit 1; }

helm --kube-context "kind-$cluster" test wildcard --namespace "$namespace" --timeout 5m

trap 'k delete wildcardfilter smoke --ignore-not-found >/dev/null; k delete namespace smoke --ignore-not-found --wait=false >/dev/null' EXIT
k create namespace smoke --dry-run=client -o yaml | k apply -f -
image=$(k get daemonset wildcard-agent -n "$namespace" -o jsonpath='{.spec.template.spec.containers[0].image}')
k run server -n smoke --image "$image" --image-pull-policy IfNotPresent --labels app=server --command -- \
    python3 -m http.server 8080
k run client -n smoke --image "$image" --image-pull-policy IfNotPresent --command -- sleep infinity
k wait pod --all -n smoke --for=condition=Ready --timeout=120s
address=$(k get pod server -n smoke -o jsonpath='{.status.podIP}')

connects() {
    k exec -n smoke client -- python3 -c \
        "import socket; socket.create_connection(('$address', 8080), timeout=2)" >/dev/null 2>&1
}

connects || { echo "the server can't be reached before there is a filter" >&2; exit 1; }
k apply -f - <<Y
apiVersion: wildcard-operator.io/v1alpha1
kind: WildcardFilter
metadata: {name: smoke}
spec:
  direction: Ingress
  target: {pods: {podSelector: {matchLabels: {app: server}}}}
  rules:
  - {name: no-http, action: Drop, protocol: TCP, destinationPorts: [{port: 8080}]}
Y
k wait wildcardfilter smoke --for=condition=Programmed --timeout=60s
if connects; then
    echo "the server can be reached through a filter that drops" >&2
    exit 1
fi

node=$(k get pod server -n smoke -o jsonpath='{.spec.nodeName}')
agent=$(k get pod -n "$namespace" -l app.kubernetes.io/component=agent --field-selector "spec.nodeName=$node" -o name)
k exec -n "$namespace" "$agent" -- python3 -c \
    "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9797/metrics').read().decode())" |
    grep 'policy="smoke",rule="no-http"' | grep '^wildcard_rule_packets_total' |
    awk '$NF > 0 {found = 1; print} END {exit !found}' || { echo "nothing was counted" >&2; exit 1; }
echo "the filter drops, and counts what it drops"
