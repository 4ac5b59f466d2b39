#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A kind cluster with wildcard-operator in it, built from this checkout. Run it again to bring in changes.
#
#   up.sh           needs docker, kind, kubectl and helm, and Linux 6.6 or later
#   CLUSTER         the cluster's name; default wildcard
set -euo pipefail
# shellcheck source=kind-cluster/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need docker kind kubectl helm

image=wildcard-operator:kind

is_up || kind create cluster --name "$cluster" --config "$here/cluster.yaml"

# The nodes' network: a point-to-point link to each pod, and a route to every other node's pods. After nodes
# were restarted, run this again.
nodes=$(kind get nodes --name "$cluster")
routes=$(k get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}')
for node in $nodes; do
    cidr=$(awk -v node="$node" '$1 == node {print $2}' <<<"$routes")
    docker exec -i "$node" sh -ec "
        mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
        iptables -t nat -C POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE 2>/dev/null ||
            iptables -t nat -A POSTROUTING -s 10.244.0.0/16 ! -d 10.244.0.0/16 -j MASQUERADE
        cat >/etc/cni/net.d/10-pods.conflist" <<J
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
 {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam",
  "ranges": [[{"subnet": "$cidr"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}
J
    while read -r other subnet address; do
        [ "$other" = "$node" ] || docker exec "$node" ip route replace "$subnet" via "$address"
    done <<<"$routes"
done
k wait --for=condition=Ready node --all --timeout=180s

docker build -t "$image" "$root"
kind load docker-image "$image" --name "$cluster"

k create namespace "$namespace" --dry-run=client -o yaml | k apply -f -
k label namespace "$namespace" --overwrite pod-security.kubernetes.io/enforce=privileged
built=$(docker image inspect -f '{{.Id}}' "$image") # pods are replaced when the image is another
helm --kube-context "kind-$cluster" upgrade --install wildcard "$root/charts/wildcard-operator" \
    --namespace "$namespace" --wait --timeout 5m --set "image.tag=${image#*:}" \
    --set-string "agent.podAnnotations.built=$built,operator.podAnnotations.built=$built"
k rollout status daemonset/wildcard-agent -n "$namespace" --timeout=180s
k get nodestates
