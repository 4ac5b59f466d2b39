# SPDX-License-Identifier: Apache-2.0
"""Services, masquerading, several nodes and the nodes themselves: what a policy means where addresses
change.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from support.agents import LocalAgent, total
from support.objects import pod_object, policy, wildcard_filter
from support.reach import connects
from support.topology import Fabric, full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.stage import Stage

SERVICES = {4: "10.96.0.10", 6: "fd00:10:96::10"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def may_call(app: str, port: int) -> dict[str, object]:
    return {"from": [{"podSelector": {"matchLabels": {"app": app}}}], "ports": [{"port": port}]}


@pytest.fixture(scope="module")
def with_service(either: Stage) -> Stage:
    for family, address in SERVICES.items():
        either.node.service(address, 80, [(either.pods["b"].address(family), 8080)])
    return either


@pytest.mark.parametrize("family", [4, 6])
def test_a_policy_speaks_of_the_pods_port_not_of_the_services(with_service: Stage, family: int) -> None:
    pods, called = with_service.pods, SERVICES[family]
    with_service.apply(policy("target-port", "b", ingress=[may_call("a", 8080)]))

    assert connects(pods["a"].netns, pods["b"].netns, called, 80, 8080)
    assert not connects(pods["c"].netns, pods["b"].netns, called, 80, 8080)

    with_service.apply(policy("service-port", "b", ingress=[may_call("a", 80)]))
    assert not connects(pods["a"].netns, pods["b"].netns, called, 80, 8080)


@pytest.mark.parametrize("family", [4, 6])
def test_egress_to_a_service_is_egress_to_its_pod(with_service: Stage, family: int) -> None:
    pods, called = with_service.pods, SERVICES[family]
    peer = {"to": [{"podSelector": {"matchLabels": {"app": "b"}}}], "ports": [{"port": 8080}]}
    with_service.apply(policy("out", "a", policyTypes=["Egress"], egress=[peer]))

    assert connects(pods["a"].netns, pods["b"].netns, called, 80, 8080)

    with_service.apply(policy("out", "a", policyTypes=["Egress"], egress=[]))
    assert not connects(pods["a"].netns, pods["b"].netns, called, 80, 8080)


@pytest.mark.parametrize("family", [4, 6])
def test_a_client_outside_keeps_its_address_through_a_port_of_the_pods_node(
    either: Stage, family: int
) -> None:
    node, pod = either.node, either.pods["b"]
    outside, own = ("192.168.50.250", "192.168.50.11")
    if family == 6:
        outside, own = "fd00:192:168:50::250", "fd00:192:168:50::11"
    node.service(own, 30080, [(pod.address(family), 8080)])
    for admitted, passes in ((outside, True), (own, False)):
        block = {"ipBlock": {"cidr": full(admitted)}}
        either.apply(policy("block", "b", ingress=[{"from": [block], "ports": [{"port": 8080}]}]))

        assert connects(either.fabric.outside, pod.netns, own, 30080, 8080) == passes


@pytest.mark.parametrize("family", [4, 6])
def test_a_pod_reaches_itself_through_its_service(with_service: Stage, family: int) -> None:
    pod = with_service.pods["b"]
    with_service.apply(policy("nothing", "b", policyTypes=["Ingress", "Egress"]))

    assert connects(pod.netns, pod.netns, SERVICES[family], 80, 8080)
    assert connects(pod.netns, pod.netns, pod.address(family), 8080)


@pytest.mark.parametrize("family", [4, 6])
def test_a_node_reaches_its_isolated_pod_with_any_of_its_addresses(either: Stage, family: int) -> None:
    node, pod = either.node, either.pods["b"]
    either.apply(policy("nothing", "b", policyTypes=["Ingress", "Egress"]))

    own = node.addresses[0 if family == 4 else 1]
    assert connects(node.netns, pod.netns, pod.address(family), 8080)
    assert connects(node.netns, pod.netns, pod.address(family), 8080, source=own)
    assert connects(pod.netns, node.netns, own, 10250)


@pytest.mark.parametrize("family", [4, 6])
def test_a_filter_of_a_pod_judges_what_it_sends_to_its_node(either: Stage, family: int) -> None:
    node, pod = either.node, either.pods["b"]
    rule = {"name": "no-kubelet", "action": "Drop", "protocol": "TCP", "destinationPorts": [{"port": 10250}]}
    target = {"pods": {"podSelector": {"matchLabels": {"app": "b"}}}}
    either.apply(wildcard_filter("no-kubelet", "Egress", target, rule))

    own = node.addresses[0 if family == 4 else 1]
    assert not connects(pod.netns, node.netns, own, 10250)
    assert connects(pod.netns, node.netns, own, 10251)
    assert connects(either.pods["a"].netns, node.netns, own, 10250)
    assert connects(node.netns, pod.netns, pod.address(family), 8080)
    dropped = total(either.agent.samples(), "wildcard_rule_packets_total", policy="no-kubelet", action="Drop")
    assert dropped > 0


@pytest.mark.parametrize("family", [4, 6])
def test_masqueraded_egress_is_judged_by_the_pods_own_address(masquerading: Stage, family: int) -> None:
    outside = "192.168.50.250" if family == 4 else "fd00:192:168:50::250"
    block = {"ipBlock": {"cidr": f"{outside}/{32 if family == 4 else 128}"}}
    pods = masquerading.pods
    masquerading.apply(
        policy("out", "a", policyTypes=["Egress"], egress=[{"to": [block], "ports": [{"port": 443}]}])
    )

    assert connects(pods["a"].netns, masquerading.fabric.outside, outside, 443)
    assert not connects(pods["a"].netns, masquerading.fabric.outside, outside, 444)
    assert connects(pods["b"].netns, masquerading.fabric.outside, outside, 444)


@pytest.fixture(scope="module")
def masquerading(either: Stage) -> Stage:
    either.node.masquerade()
    return either


@pytest.fixture(scope="module", params=["ptp", "bridge"])
def two_nodes(request: pytest.FixtureRequest) -> Iterator[tuple[Fabric, list[LocalAgent]]]:
    with Fabric() as fabric, ExitStack() as stack:
        for number in (1, 2):
            node = fabric.add_node(f"node-{number}", request.param)
            for last, name in enumerate("xy", start=1):
                node.add_pod(
                    f"{name}{number}", f"10.244.{number}.{last + 1}", f"fd00:10:244:{number}::{last + 1}"
                )
        agents = [stack.enter_context(LocalAgent(node)) for node in fabric.nodes.values()]
        yield fabric, agents


def _apply(fabric: Fabric, agents: list[LocalAgent], *objects: dict[str, object]) -> None:
    pods = [pod_object(pod, node.name) for node in fabric.nodes.values() for pod in node.pods.values()]
    for agent in agents:
        agent.apply(*pods, *objects)


@pytest.mark.parametrize("family", [4, 6])
def test_each_node_judges_its_own_end(two_nodes: tuple[Fabric, list[LocalAgent]], family: int) -> None:
    fabric, agents = two_nodes
    one, two = fabric.nodes["node-1"].pods, fabric.nodes["node-2"].pods
    _apply(fabric, agents, policy("from-x1", "x2", ingress=[may_call("x1", 80)]))

    assert connects(one["x1"].netns, two["x2"].netns, two["x2"].address(family), 80)
    assert not connects(one["y1"].netns, two["x2"].netns, two["x2"].address(family), 80)

    peer = {"to": [{"podSelector": {"matchLabels": {"app": "y2"}}}]}
    _apply(fabric, agents, policy("to-y2", "x1", policyTypes=["Egress"], egress=[peer]))
    assert connects(one["x1"].netns, two["y2"].netns, two["y2"].address(family), 80)
    assert not connects(one["x1"].netns, two["x2"].netns, two["x2"].address(family), 80)


@pytest.mark.parametrize("family", [4, 6])
def test_another_node_is_a_stranger(two_nodes: tuple[Fabric, list[LocalAgent]], family: int) -> None:
    fabric, agents = two_nodes
    other, pod = fabric.nodes["node-1"], fabric.nodes["node-2"].pods["x2"]
    _apply(fabric, agents, policy("nothing", "x2"))

    assert not connects(other.netns, pod.netns, pod.address(family), 80)

    address = other.addresses[0 if family == 4 else 1]
    block = {"ipBlock": {"cidr": f"{address}/{32 if family == 4 else 128}"}}
    _apply(fabric, agents, policy("the-node", "x2", ingress=[{"from": [block]}]))
    assert connects(other.netns, pod.netns, pod.address(family), 80)
