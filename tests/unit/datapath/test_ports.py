# SPDX-License-Identifier: Apache-2.0
"""Which interface leads to which pod, and that a pod can't have another's by claiming its address."""

from __future__ import annotations

from wildcard_operator.datapath.host import HostState
from wildcard_operator.datapath.ports import pod_ports
from wildcard_operator.model.entries import LocalPod
from wildcard_operator.model.net import Address, parse_address


def address(text: str) -> Address:
    return parse_address(text)


def pod(name: str, *addresses: str) -> LocalPod:
    return LocalPod("x", name, "", tuple(map(address, addresses)))


A, B = pod("a", "10.0.0.1", "fd00::1"), pod("b", "10.0.0.2", "fd00::2")
PODS = {1: A, 2: B}


def routes(**to: int) -> HostState:
    return HostState(routes={address(text.replace("_", ".")): index for text, index in to.items()})


def behind(**ports: tuple[str, ...]) -> HostState:
    return HostState(behind={int(port[1:]): frozenset(map(address, found)) for port, found in ports.items()})


def test_a_host_route_leads_to_its_pod() -> None:
    host = HostState(routes={address("10.0.0.1"): 5, address("fd00::1"): 5, address("10.0.0.9"): 6})

    assert pod_ports(PODS, host, {}) == {5: 1}


def test_an_interface_with_routes_to_several_pods_is_none_of_theirs() -> None:
    host = HostState(routes={address("10.0.0.1"): 5, address("10.0.0.2"): 5})

    assert pod_ports(PODS, host, {}) == {}


def test_a_port_of_a_bridge_is_known_by_the_addresses_behind_it() -> None:
    assert pod_ports(PODS, behind(p7=("10.0.0.1", "fd00::1"), p8=("10.0.0.2",), p9=("192.0.2.1",)), {}) == {
        7: 1,
        8: 2,
    }


def test_a_pod_that_takes_anothers_address_keeps_its_own_port_and_gets_no_other() -> None:
    claimed = behind(p7=("10.0.0.1", "10.0.0.2"), p8=("10.0.0.2",))

    assert pod_ports(PODS, claimed, {7: 1, 8: 2}) == {7: 1, 8: 2}
    assert pod_ports(PODS, claimed, {}) == {7: 1, 8: 2}


def test_what_two_ports_claim_equally_stays_with_whom_it_was_first() -> None:
    both = behind(p7=("10.0.0.1", "10.0.0.2"), p8=("10.0.0.1", "10.0.0.2"))

    assert pod_ports(PODS, both, {}) == {}
    assert pod_ports(PODS, both, {7: 2, 8: 1}) == {7: 2, 8: 1}


def test_a_port_whose_pod_is_gone_is_free() -> None:
    assert pod_ports({2: B}, behind(p7=("10.0.0.2",)), {7: 1}) == {7: 2}
