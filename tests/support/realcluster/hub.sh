#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The control plane of a real cluster, as the first process of its own PID, mount, network and IPC namespaces.
#
#   hub.sh FOLDER TOOLS NODES
#
# The hub has no link to the machine's network and no default route: no packet can leave. When this process ends,
# the kernel ends everything in it, the nodes too. FOLDER has pki/ and kubeconfigs; data lies on a tmpfs.
set -euo pipefail
folder=$1 tools=$2 nodes=$3
address=172.30.0.1
cd "$folder/pki"

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o size=8g,mode=755 data "$folder/data"

ip link set lo up
ip link add br0 type bridge
ip addr add $address/24 dev br0
ip link set br0 up
echo 1 >/proc/sys/net/ipv4/ip_forward
for number in $(seq 1 "$nodes"); do
    ip route add "10.244.$number.0/24" via "172.30.0.1$number"
done

launch() { # NAME COMMAND...
    local log=$folder/log/$1.log
    shift
    "$@" >"$log" 2>&1 </dev/null &
}

launch etcd "$tools/etcd" --name hub --data-dir "$folder/data/etcd" --unsafe-no-fsync --log-level=warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster hub=http://127.0.0.1:2380

launch apiserver "$tools/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 \
    --bind-address=$address --advertise-address=$address --secure-port=6443 \
    --tls-cert-file=apiserver.crt --tls-private-key-file=apiserver.key --client-ca-file=ca.crt \
    --kubelet-client-certificate=admin.crt --kubelet-client-key=admin.key --kubelet-certificate-authority=ca.crt \
    --kubelet-preferred-address-types=InternalIP --authorization-mode=Node,RBAC \
    --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key \
    --service-cluster-ip-range=10.96.0.0/12 --cert-dir="$folder/pki" --profiling=false

# Before the server is ready it doesn't know what these two may do, and they end.
until curl -sf --cacert ca.crt --cert admin.crt --key admin.key https://$address:6443/readyz >/dev/null; do
    sleep 0.05
done

# Without these rates the ServiceAccount `default` comes five seconds after the nodes.
launch controller-manager "$tools/kube-controller-manager" --kubeconfig=controller-manager.kubeconfig \
    --authentication-kubeconfig=controller-manager.kubeconfig \
    --authorization-kubeconfig=controller-manager.kubeconfig \
    --bind-address=127.0.0.1 --cert-dir="$folder/data/controller-manager" --leader-elect=false \
    --service-account-private-key-file=sa.key --root-ca-file=ca.crt --use-service-account-credentials=true \
    --cluster-cidr=10.244.0.0/16 --allocate-node-cidrs=false --kube-api-qps=500 --kube-api-burst=1000 \
    --profiling=false

launch scheduler "$tools/kube-scheduler" --kubeconfig=scheduler.kubeconfig \
    --authentication-kubeconfig=scheduler.kubeconfig --authorization-kubeconfig=scheduler.kubeconfig \
    --bind-address=127.0.0.1 --cert-dir="$folder/data/scheduler" --leader-elect=false --profiling=false

# bash reaps the orphans of all namespaces below.
while :; do
    sleep 3600 &
    wait -n || true
done
