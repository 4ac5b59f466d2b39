# SPDX-License-Identifier: Apache-2.0
"""Nodes made of namespaces that belong to a real control plane: real agents, and this module in place of
kubelets.

Everything that a kubelet, a CNI plugin or a DaemonSet's controller would do is done here: Node objects, pods'
status, the agents' pods and their tokens. What a user would do, tests do with kubectl.
"""

from __future__ import annotations

import ipaddress
import json
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from support.agents import Samples, samples_of, total
from support.bpffs import mounted_bpffs
from support.manifests import NAMESPACE
from support.processes import timestamp
from support.relay import Relays
from support.topology import Fabric
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from support.controlplane import ControlPlane
    from support.relay import Relay
    from support.topology import Cni, Node, Pod

AGENT = Path(sys.executable).parent / "wildcard-agent"
AGENT_LABELS = {"app.kubernetes.io/name": "wildcard-operator", "app.kubernetes.io/component": "agent"}
METRICS_PORT = 9797


@dataclass
class KubeNode:
    """A node with its agent."""

    name: str
    node: Node
    bpffs: Path
    relay: Relay
    kubeconfig: Path
    log: Path
    options: Sequence[str] = ()
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the agent."""
        command = [
            *(str(AGENT), "--kubernetes", "--kubeconfig", str(self.kubeconfig)),
            *("--namespace", NAMESPACE, "--node", self.name),
            *("--bpffs", str(self.bpffs), "--metrics-port", str(METRICS_PORT), *self.options),
        ]
        with self.log.open("a") as log:
            self.process = self.node.netns.spawn(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End the agent; what it put into the kernel stays."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def samples(self) -> Samples:
        """The agent's metrics, nothing while it doesn't answer."""
        try:
            with self.node.netns.entered():
                client = socket.create_connection(("127.0.0.1", METRICS_PORT), timeout=5)
            with client:
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
        except OSError:
            return {}
        return samples_of(answer.partition(b"\r\n\r\n")[2].decode())

    def value(self, name: str, **labels: str) -> float:
        """One metric of the agent's, summed over the labels that are not given."""
        return total(self.samples(), name, **labels)


class KubeCluster:
    """A control plane's nodes. Use it as a context manager; its pods and nodes are deleted in the end."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.nodes: dict[str, KubeNode] = {}
        self._pods: dict[tuple[str, str], str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._relays = stack.enter_context(Relays())
            self.fabric = stack.enter_context(Fabric())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        if self.plane.apiserver.running:
            for namespace in {NAMESPACE, *(namespace for namespace, _ in self._pods)}:
                self.plane.kubectl("delete", "pods", "--all", "-n", namespace, "--force", "--grace-period=0")
            if self.nodes:
                self.plane.kubectl("delete", "nodes", *self.nodes)

    def add_node(self, name: str, cni: Cni = "ptp", *options: str) -> KubeNode:
        """Register a node and start its agent, whose pod is ready only when it enforces."""
        node = self.fabric.add_node(name, cni)
        self.plane.apply(node_object(node))
        self.plane.kubectl(
            *("patch", "node", name, "--subresource=status", "--type=merge", "-p"),
            json.dumps(
                {"status": {"addresses": [{"type": "InternalIP", "address": a} for a in node.addresses]}}
            ),
        )
        agent = f"wildcard-agent-{name}"
        self.plane.apply(
            pod_object(NAMESPACE, agent, name, AGENT_LABELS, account="wildcard-agent", host_network=True)
        )
        kube = self.nodes[name] = KubeNode(
            name,
            node,
            self._stack.enter_context(mounted_bpffs()),
            self._relays.open(node.netns, self.plane.port),
            self.plane.service_account(NAMESPACE, "wildcard-agent", pod=(agent, name)),
            self.plane.folder / f"agent-{name}.log",
            options,
        )
        self._stack.callback(kube.stop)
        kube.start()
        wait_until(
            lambda: kube.value("wildcard_commits_total") > 0,
            90,
            lambda: f"{name} enforces\n{kube.log.read_text()}",
        )
        self.set_pod_status(NAMESPACE, agent, node.addresses[:1])
        return kube

    def start_pod(
        self,
        namespace: str,
        name: str,
        node: str,
        labels: Mapping[str, str] | None = None,
        ports: Sequence[Mapping[str, Any]] = (),
    ) -> Pod:
        """Run a pod: its object, its namespace and interface, then its addresses in the API."""
        self.create_pod(namespace, name, node, labels or {}, ports)
        pod = self.run_pod(namespace, name, node)
        self.set_pod_status(namespace, name, pod.addresses)
        return pod

    def create_pod(
        self,
        namespace: str,
        name: str,
        node: str,
        labels: Mapping[str, str],
        ports: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """The pod's object alone, bound to a node."""
        if self.plane.managed:
            account = ("serviceaccount", "default", "-n", namespace)
            wait_until(lambda: self.plane.exists(*account), 60, "there is a ServiceAccount")
        self.plane.apply(pod_object(namespace, name, node, labels, ports))

    def report_pod(self, namespace: str, name: str, node: str, labels: Mapping[str, str]) -> None:
        """Create the object of a pod that runs already, and report its addresses."""
        self.create_pod(namespace, name, node, labels)
        self.set_pod_status(namespace, name, self.pod(namespace, name).addresses)

    def run_pod(self, namespace: str, name: str, node: str) -> Pod:
        """The pod's network alone, as the CNI plugin makes it before the API knows of an address."""
        host = self.nodes[node].node
        number = len(self._pods) + 10
        pod = host.add_pod(f"{namespace}/{name}", *(address_in(cidr, number) for cidr in host.pod_cidrs))
        self._pods[namespace, name] = node
        return pod

    def end_pod(self, namespace: str, name: str) -> None:
        """End what runs of a pod and then its object, as a kubelet does."""
        self.nodes[self._pods.pop((namespace, name))].node.remove_pod(f"{namespace}/{name}")
        self.plane.kubectl("delete", "pod", "-n", namespace, name, "--grace-period=0", "--force")

    def set_pod_status(
        self, namespace: str, name: str, addresses: Sequence[str], *, ready: bool = True
    ) -> None:
        """Report a pod as running, as its kubelet would."""
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": timestamp()}
        status: dict[str, Any] = {"phase": "Running", "conditions": [condition]}
        if addresses:
            status |= {"podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses]}
        self.plane.kubectl(
            *("patch", "pod", "-n", namespace, name, "--subresource=status", "--type=merge", "-p"),
            json.dumps({"status": status}),
        )

    def pod(self, namespace: str, name: str) -> Pod:
        """A pod that runs."""
        return self.nodes[self._pods[namespace, name]].node.pods[f"{namespace}/{name}"]


def node_object(node: Node) -> dict[str, Any]:
    """The Node of a node, as its kubelet registers it."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": node.name},
        },
        "spec": {"podCIDR": node.pod_cidrs[0], "podCIDRs": list(node.pod_cidrs)},
    }


def pod_object(
    namespace: str,
    name: str,
    node: str,
    labels: Mapping[str, str],
    ports: Sequence[Mapping[str, Any]] = (),
    *,
    account: str = "default",
    host_network: bool = False,
) -> dict[str, Any]:
    """A Pod that is bound to a node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": dict(labels)},
        "spec": {
            "nodeName": node,
            "serviceAccountName": account,
            "hostNetwork": host_network,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "example.invalid/none", "ports": list(ports)}],
        },
    }


def address_in(cidr: str, number: int) -> str:
    """The address with this number in a pod range."""
    return str(ipaddress.ip_network(cidr)[number])
