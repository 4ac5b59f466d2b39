# SPDX-License-Identifier: Apache-2.0
"""The whole of it, with kubectl alone: apply a policy and every node obeys, delete it and nothing is left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.connections import Attempt, Servers, established
from support.kubenodes import METRICS_PORT, KubeCluster
from support.manifests import NAMESPACE, namespace, wildcard_filter
from support.prometheus import prometheus
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.controlplane import ControlPlane
    from support.netns import Namespace
    from support.operators import OperatorProcess

POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"namespace": "shop", "name": "web"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [
            {
                "from": [{"namespaceSelector": {"matchLabels": {"team": "front"}}}],
                "ports": [{"port": 8000, "endPort": 8999}],
            },
            {
                "from": [{"ipBlock": {"cidr": "198.51.100.0/24", "except": ["198.51.100.128/25"]}}],
                "ports": [{"port": 9000}],
            },
        ],
    },
}
FILTER = wildcard_filter(
    "no-8500",
    {
        "direction": "Ingress",
        "priority": 10,
        "target": {"pods": {"podSelector": {"matchLabels": {"app": "web"}}}},
        "rules": [
            {"name": "dropped", "action": "Drop", "destinationPorts": [{"port": 8500}], "protocol": "TCP"}
        ],
    },
)
WILDCARDCTL = Path(sys.executable).parent / "wildcardctl"
INSIDE, EXCEPTED = "198.51.100.7", "198.51.100.200"
PORTS = (8000, 8080, 8500, 8999, 9000)


class Shop:
    """Pods of three namespaces on two nodes, and two hosts outside, that connect to the pod `web`."""

    def __init__(self, cluster: KubeCluster, servers: Servers) -> None:
        self.plane = cluster.plane
        self.cluster = cluster
        for name, labels in (("shop", {}), ("front", {"team": "front"}), ("back", {})):
            self.plane.apply(namespace(name, **labels))
        ports = [{"name": "http", "containerPort": 8080}]
        self.web = cluster.start_pod("shop", "web", "node-1", {"app": "web"}, ports)
        self.sources: dict[str, tuple[Namespace, str | None]] = {
            "front": (cluster.start_pod("front", "client", "node-2").netns, None),
            "back": (cluster.start_pod("back", "client", "node-1").netns, None),
            "inside": (cluster.fabric.outside_address(INSIDE), INSIDE),
            "excepted": (cluster.fabric.outside_address(EXCEPTED), EXCEPTED),
        }
        servers.listen(self.web.netns, *PORTS)

    def reached(self) -> dict[str, set[int]]:
        """The ports of `web` that each source reaches."""
        address = self.web.address(4)
        attempts = {
            (name, port): Attempt(netns, address, port, own)
            for name, (netns, own) in self.sources.items()
            for port in PORTS
        }
        answers = dict(zip(attempts, established(list(attempts.values())), strict=True))
        return {name: {port for port in PORTS if answers[name, port]} for name in self.sources}

    def wait_for(self, expected: dict[str, set[int]], seconds: float = 1.0) -> None:
        """Until every connection has the fate that is expected of it; the bound is the product's promise."""
        wait_until(lambda: self.reached() == expected, seconds, lambda: f"{expected}, not {self.reached()}")


@pytest.fixture(scope="module")
def shop(installed: ControlPlane, operator: OperatorProcess) -> Iterator[Shop]:
    with KubeCluster(installed) as cluster, Servers() as servers:
        cluster.add_node("node-1")
        cluster.add_node("node-2", "bridge")
        yield Shop(cluster, servers)


def test_kubectl_alone_brings_policies_into_force_and_out_of_it(shop: Shop) -> None:
    plane = shop.plane
    everything = {name: set(PORTS) for name in shop.sources}
    by_policy = {"front": {8000, 8080, 8500, 8999}, "back": set(), "inside": {9000}, "excepted": set()}
    by_both = {**by_policy, "front": {8000, 8080, 8999}}
    targets = [f"{kube.node.addresses[0]}:{METRICS_PORT}" for kube in shop.cluster.nodes.values()]
    # A pod of a namespace that is new to its node is isolated until the policies of this are known there.
    shop.wait_for(everything, seconds=20)

    with prometheus(shop.cluster.fabric.outside, targets) as metrics:
        plane.apply(POLICY)
        shop.wait_for(by_policy)

        plane.apply(FILTER)
        shop.wait_for(by_both)

        plane.kubectl("wait", "wildcardfilter/no-8500", "--for=condition=Programmed", "--timeout=60s")
        assert plane.get("wildcardfilter", "no-8500")["status"]["nodes"] == {
            "desired": 1,
            "programmed": 1,
            "failed": 0,
        }
        asked = status_of(plane, "--wait", "60", "shop/web", "no-8500")
        assert asked.returncode == 0, asked.stdout
        assert {one["name"]: one["state"] for one in json.loads(asked.stdout)["objects"]} == {
            "web": "InForce",
            "no-8500": "InForce",
        }
        assert status_of(plane, "shop/none").returncode == 1

        dropped = 'wildcard_rule_packets_total{kind="WildcardFilter",policy="no-8500",rule="dropped"}'
        allowed = 'wildcard_rule_packets_total{kind="NetworkPolicy",namespace="shop",policy="web"}'
        wait_until(lambda: metrics.value(f"sum({dropped})") > 0, 60, "Prometheus has the filter's drops")
        wait_until(lambda: metrics.value(f"sum({allowed})") > 0, 60, "Prometheus has what the policy allows")

        plane.kubectl("delete", "wildcardfilter", "no-8500")
        shop.wait_for(by_policy)

        plane.kubectl("delete", "networkpolicy", "-n", "shop", "web")
        shop.wait_for(everything)

    assert plane.get("rulesets", "-n", NAMESPACE)["items"] == []
    wait_until(lambda: left_over(shop) == {}, 20, lambda: f"nothing is left: {left_over(shop)}")


def status_of(plane: ControlPlane, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `wildcardctl status` says."""
    command = [WILDCARDCTL, "status", "--json", "--kubeconfig", plane.kubeconfig, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def left_over(shop: Shop) -> dict[str, object]:
    """What the agents still say of the policy and the filter."""
    return {
        name: labels
        for kube in shop.cluster.nodes.values()
        for (name, labels) in kube.samples()
        if {("policy", "web"), ("policy", "no-8500")} & labels
    }


def test_nothing_was_written_on_the_network_policy(shop: Shop) -> None:
    plane = shop.plane
    plane.apply(POLICY)
    name = ("networkpolicy", "-n", "shop", "web")
    before = plane.get(*name, "--show-managed-fields")["metadata"]
    assert status_of(plane, "--wait", "60", "shop/web").returncode == 0, "it is in force"

    assert plane.get(*name, "--show-managed-fields")["metadata"] == before
    plane.kubectl("delete", *name)
