#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A node of a real cluster, as the first process of its own namespaces inside the hub's: containerd, the kubelet
# and kube-proxy, with a /run, a bpffs and cgroups of their own.
#
#   node.sh FOLDER TOOLS NODES NUMBER CNI ARCHIVE...      CNI: ptp or bridge; ARCHIVE: images to load
set -euo pipefail
folder=$1 tools=$2 nodes=$3 number=$4 cni=$5
archives=("${@:6}")
name=n$number
address=172.30.0.1$number
data=$folder/data/$name

trap '' HUP
hostname "$name"
mount --make-rprivate /
mount --make-rshared / # a peer group of its own: what pods mount for others stays in this node
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
for controller in cpu cpuacct cpuset memory devices freezer blkio pids systemd; do
    mkdir "/sys/fs/cgroup/$controller"
    options=$controller
    [ $controller = systemd ] && options=none,name=systemd
    mount -t cgroup -o $options cgroup "/sys/fs/cgroup/$controller"
done
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/lock /run/netns
for path in /var/lib/kubelet /var/lib/containerd /var/lib/cni /var/log/pods /var/log/containers \
    /etc/cni/net.d /etc/kubernetes /opt/cni/bin; do
    mkdir -p "$data$path" "$path"
    mount --bind "$data$path" "$path"
done
# The kubelet would set these for the whole machine: private files already say what it wants.
for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
    file=$data/sysctl/${setting%%=*}
    mkdir -p "$(dirname "$file")"
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%%=*}"
done
printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" >"$data/hosts"
mount --bind "$data/hosts" /etc/hosts
: >"$data/resolv.conf"
mount --bind "$data/resolv.conf" /etc/resolv.conf

until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done # the test moves it in
ip link set lo up
ip addr add "$address/24" dev eth0
ip link set eth0 up
ip route add default via 172.30.0.1
for other in $(seq 1 "$nodes"); do
    [ "$other" = "$number" ] || ip route add "10.244.$other.0/24" via "172.30.0.1$other"
done
echo 1 >/proc/sys/net/ipv4/ip_forward

case $cni in
    ptp) layer2='"type": "ptp", "ipMasq": false' ;;
    bridge) layer2='"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true' ;;
esac
cat >/etc/cni/net.d/10-pods.conflist <<J
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
 {$layer2, "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam",
  "ranges": [[{"subnet": "10.244.$number.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
J

# restrict_oom_score_adj: also a machine without CAP_SYS_RESOURCE can run pods.
cat >/etc/kubernetes/containerd.toml <<T
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
T
containerd -c /etc/kubernetes/containerd.toml >"$folder/log/$name-containerd.log" 2>&1 </dev/null &
until [ -S /run/containerd/containerd.sock ] && ctr version >/dev/null 2>&1; do sleep 0.05; done
for archive in "${archives[@]}"; do
    ctr -n k8s.io images import "$archive" >>"$folder/log/$name-images.log" 2>&1
done

cat >/etc/kubernetes/kubelet.yaml <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
address: $address
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $folder/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $folder/pki/$name-serving.crt
tlsPrivateKeyFile: $folder/pki/$name-serving.key
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
failSwapOn: false
makeIPTablesUtilChains: false
imageGCHighThresholdPercent: 100
evictionHard:
  memory.available: "0%"
  nodefs.available: "0%"
  nodefs.inodesFree: "0%"
  imagefs.available: "0%"
  imagefs.inodesFree: "0%"
  pid.available: "0%"
volumePluginDir: /var/lib/kubelet/volumeplugins
oomScoreAdj: 0
Y
"$tools/kubelet" --config=/etc/kubernetes/kubelet.yaml --kubeconfig="$folder/pki/$name.kubeconfig" \
    --hostname-override="$name" --node-ip="$address" --root-dir=/var/lib/kubelet \
    --cert-dir=/var/lib/kubelet/pki --v=2 >"$folder/log/$name-kubelet.log" 2>&1 </dev/null &

cat >/etc/kubernetes/proxy.yaml <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $folder/pki/proxy.kubeconfig}
clusterCIDR: 10.244.0.0/16
hostnameOverride: $name
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
Y
"$tools/kube-proxy" --config=/etc/kubernetes/proxy.yaml >"$folder/log/$name-proxy.log" 2>&1 </dev/null &

while :; do
    sleep 3600 &
    wait -n || true
done
