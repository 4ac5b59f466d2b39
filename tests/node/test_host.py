# SPDX-License-Identifier: Apache-2.0
"""What the node's network is, as the kernel tells it."""

from __future__ import annotations

import select
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from support.topology import Cni, Fabric, Node
from wildcard_operator.datapath.host import Link, Netlink
from wildcard_operator.model.net import parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator

PAIRS = 50


@contextmanager
def a_node(cni: Cni) -> Iterator[tuple[Node, Netlink]]:
    with Fabric() as fabric:
        node = fabric.add_node("node-1", cni)
        node.add_pod("a", "10.244.1.11", "fd00:10:244:1::11")
        with node.netns.entered():
            network = Netlink()
            try:
                yield node, network
            finally:
                network.close()


def test_routed_pods_are_found_by_their_routes() -> None:
    with a_node("ptp") as (node, network):
        host, pod = network.read(), node.pods["a"]

    assert host.routes == {parse_address(address): pod.host_index for address in pod.addresses}
    assert host.links[pod.host_index].name == pod.host_ifname
    assert host.links[pod.host_index].kind == "veth"
    assert host.primary == {node.index}
    assert set(map(parse_address, node.addresses)) <= host.addresses
    assert not host.behind


def test_pods_on_a_bridge_are_found_behind_its_ports() -> None:
    with a_node("bridge") as (node, network):
        host, pod = network.read(), node.pods["a"]

    assert host.behind[pod.host_index] >= set(map(parse_address, pod.addresses))
    assert host.links[pod.host_index].bridge == node.bridge_index
    assert host.links[node.bridge_index] == Link(node.bridge_index, "cni0", "bridge")


def test_a_bridge_is_handed_to_netfilter_once_it_is_asked_for() -> None:
    with a_node("bridge") as (node, network):
        assert network.read().unfiltered == {node.bridge_index}
        network.filter_bridge(node.bridge_index)

        assert not network.read().unfiltered


def test_what_is_no_bridge_cannot_be_filtered() -> None:
    with a_node("ptp") as (_, network), pytest.raises(OSError, match="bridge 1: "):
        network.filter_bridge(1)


def test_a_namespace_that_is_gone_has_no_addresses_and_harms_nothing() -> None:
    with a_node("bridge") as (node, network):
        node.add_pod("b", "10.244.1.12")
        network.read()
        node.remove_pod("b")

        assert len(network.read().behind) == 1


def test_a_burst_of_changes_costs_few_readings() -> None:
    with a_node("ptp") as (node, network):
        network.drain()
        before = len(network.read().links)
        commands = "\n".join(f"link add burst{number} type veth" for number in range(PAIRS))
        burst = threading.Thread(
            target=node.netns.run, args=("ip", "-batch", "-"), kwargs={"stdin": commands}
        )
        burst.start()
        readings, seen = 0, before
        while seen < before + 2 * PAIRS:
            assert select.select([network.fileno()], [], [], 10)[0], (
                f"{seen - before} of {2 * PAIRS} new links were seen"
            )
            network.drain()
            seen = len(network.read().links)
            readings += 1
        burst.join()

    assert readings <= PAIRS // 3
