# SPDX-License-Identifier: Apache-2.0
"""Ways around a policy, each tried and closed."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from pyroute2 import NFCTSocket
from scapy.layers.igmp import IGMP
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport,
    ICMPv6ND_NA,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.ppp import PPPoE
from scapy.packet import Raw

from support.agents import total
from support.objects import pod_object, policy
from support.rawpackets import ICMP_ECHO, icmp_message
from support.reach import datagram_arrives
from support.wire import Sender, Wire, in_order, mac_of, token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.stage import Stage

DENY_B = policy("deny", "b")
OPEN = policy("open", "b", ingress=[{}])


def from_a(stage: Stage) -> Sender:
    return Sender(stage.node, stage.pods["a"], stage.pods["b"])


@pytest.fixture
def bridge_sender(bridged: Stage) -> Iterator[Sender]:
    bridged.apply(DENY_B)
    with from_a(bridged) as made:
        yield made


@pytest.fixture
def sender(either: Stage) -> Iterator[Sender]:
    either.apply(DENY_B)
    with from_a(either) as made:
        yield made


def events(stage: Stage, event: str) -> float:
    return total(stage.agent.samples(), "wildcard_event_packets_total", event=event)


TAGGED = {
    "VID 0": [Dot1Q(vlan=0)],
    "VID 7": [Dot1Q(vlan=7)],
    "an outer tag of VID 0 around another": [Dot1Q(vlan=0), Dot1Q(vlan=0)],
    "a service tag": [Dot1Q(vlan=0, type=0x8100)],
    "PPPoE": [PPPoE()],
}


@pytest.mark.parametrize("name", TAGGED)
@pytest.mark.parametrize("family", [4, 6])
def test_a_tagged_frame_does_not_cross_a_bridge(bridge_sender: Sender, name: str, family: int) -> None:
    frame = bridge_sender.ethernet.copy()
    if name == "a service tag":
        frame.type = 0x88A8
    for header in TAGGED[name]:
        frame /= header.copy()
    mark = token()

    assert not bridge_sender.frame_passes(frame / bridge_sender.ip(family) / UDP(dport=80) / Raw(mark), mark)


def test_frames_between_pods_that_no_policy_selects_may_not_be_tagged_either(bridged: Stage) -> None:
    bridged.apply()
    with from_a(bridged) as sender:
        mark = token()
        frame = sender.ethernet / Dot1Q(vlan=7) / sender.ip(4) / UDP(dport=80) / Raw(mark)

        assert not sender.frame_passes(frame, mark)
        assert sender.passes(sender.ip(4) / UDP(dport=80))


def _link_local(netns_mac: str) -> str:
    parts = [int(part, 16) for part in netns_mac.split(":")]
    parts[0] ^= 2
    words = [*parts[:3], 0xFF, 0xFE, *parts[3:]]
    return "fe80::" + ":".join(f"{words[i] << 8 | words[i + 1]:x}" for i in range(0, 8, 2))


UNNAMED = {
    "link-local to link-local": ("ll", "ll"),
    "its own address to link-local": ("own", "ll"),
    "link-local to its address": ("ll", "own"),
    "IPv6 multicast to all nodes": ("own", "ff02::1"),
    "IPv6 multicast": ("own", "ff02::fb"),
    "no source at all": ("::", "ff02::1"),
    "IPv4 multicast": ("own4", "224.0.0.251"),
    "IPv4 broadcast": ("own4", "255.255.255.255"),
    "the subnet's broadcast": ("own4", "10.244.1.255"),
    "IPv4 link-local": ("169.254.7.1", "169.254.7.2"),
    "no IPv4 source at all": ("0.0.0.0", "255.255.255.255"),
}


@pytest.mark.parametrize("name", UNNAMED)
def test_addresses_that_name_nobody_are_judged_by_the_ports(bridged: Stage, name: str) -> None:
    source, destination = UNNAMED[name]
    macs = {pod: mac_of(bridged.pods[pod].netns, "eth0") for pod in "ab"}
    known = {"own": 6, "own4": 4}
    src = _link_local(macs["a"]) if source == "ll" else source
    dst = _link_local(macs["b"]) if destination == "ll" else destination
    src = bridged.pods["a"].address(known[src]) if src in known else src
    dst = bridged.pods["b"].address(known[dst]) if dst in known else dst
    layer = IPv6 if ":" in src else IP
    with from_a(bridged) as sender:
        packet = layer(src=src, dst=dst) / UDP(sport=5353, dport=5353)
        bridged.apply(DENY_B)
        denied = sender.passes(packet)
        bridged.apply(OPEN)
        opened = sender.passes(packet)

    assert (denied, opened) == (False, True)


FORGED = {"another pod's": "c", "the node's": "192.168.50.11", "an unknown": "198.51.100.77"}
FORGED_V6 = {"another pod's": "c", "the node's": "fd00:192:168:50::11", "an unknown": "2001:db8::77"}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("family", [4, 6])
def test_a_forged_source_is_dropped_and_counted(either: Stage, name: str, family: int) -> None:
    either.apply(policy("from-c", "b", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "c"}}}]}]))
    forged = (FORGED if family == 4 else FORGED_V6)[name]
    address = either.pods["c"].address(family) if forged == "c" else forged
    either.node.netns.sysctl("ipv4/conf/all/rp_filter", 0)
    with from_a(either) as sender:
        before = events(either, "spoofed")

        assert not sender.passes(sender.ip(family, src=address) / UDP(dport=80))
        if either.node.cni == "bridge" or name != "the node's" or family == 6:
            assert events(either, "spoofed") == before + 1


@pytest.mark.parametrize("family", [4, 6])
def test_a_forged_source_does_not_leave_the_node(either: Stage, family: int) -> None:
    """Bridged and then routed, a packet still carries the port of the bridge where it came in."""
    either.apply()
    outside = either.fabric.outside
    target = "192.168.50.250" if family == 4 else "fd00:192:168:50::250"
    gateway = either.node.netns
    via = mac_of(gateway, "cni0" if either.node.cni == "bridge" else either.pods["a"].host_ifname)
    with from_a(either) as sender, Wire(outside) as out:
        before = events(either, "spoofed")
        marks = {"c": token(), "a": token()}
        with in_order():
            for name, mark in marks.items():
                packet = sender.ip(family, src=either.pods[name].address(family), dst=target)
                sender.send(Ether(src=sender.ethernet.src, dst=via) / packet / UDP(dport=80) / Raw(mark))

        assert out.first_of(*marks.values()) == marks["a"]
        assert events(either, "spoofed") == before + 1


def test_a_forged_source_does_not_reach_the_node(either: Stage) -> None:
    either.apply()
    via = mac_of(either.node.netns, "cni0" if either.node.cni == "bridge" else either.pods["a"].host_ifname)
    with either.node.netns.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with from_a(either) as sender, server:
        server.bind(("192.168.50.11", 7777))
        server.settimeout(10)
        with in_order():
            for source in ("c", "a"):
                packet = sender.ip(4, src=either.pods[source].address(4), dst="192.168.50.11")
                packet /= UDP(sport=1, dport=7777) / Raw(source)
                sender.send(Ether(src=sender.ethernet.src, dst=via) / packet)

        assert server.recv(100) == b"a"


def _ping(stage: Stage, source: str, destination: str, identifier: int) -> bool:
    """One echo request; whether it is answered."""
    with stage.pods[source].netns.entered():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with raw:
        raw.settimeout(0.4)  # no answer is all that a dropped request shows
        raw.sendto(icmp_message(*ICMP_ECHO, identifier, b"x"), (stage.pods[destination].address(4), 0))
        try:
            while True:
                data = raw.recv(1500)
                if data[20] == 0 and struct.unpack_from(">H", data, 24)[0] == identifier:
                    return True
        except TimeoutError:
            return False


def test_an_echo_request_with_the_id_of_an_allowed_ping_is_judged_by_itself(either: Stage) -> None:
    either.apply(DENY_B)

    assert _ping(either, "b", "a", 4711)
    assert not _ping(either, "a", "b", 4711)
    assert _ping(either, "b", "a", 4711)


def test_a_stale_connection_entry_opens_no_port(either: Stage) -> None:
    either.apply()
    assert datagram_arrives(either.pods["a"], 4001, either.pods["b"], 53)
    either.apply(DENY_B)

    assert not datagram_arrives(either.pods["a"], 4001, either.pods["b"], 53)
    assert not datagram_arrives(either.pods["a"], 53, either.pods["b"], 4001)


def test_a_pod_at_a_former_ones_address_inherits_no_connection(either: Stage) -> None:
    """The kernel tracks connections by their addresses and ports, whoever has these."""

    def admit(app: str) -> None:
        peer = {"podSelector": {"matchLabels": {"app": app}}}
        either.apply(policy("admit", "b", ingress=[{"from": [peer]}]))

    admit("former")
    try:
        assert datagram_arrives(either.add_pod("former", "10.244.1.14"), 4008, either.pods["b"], 53)
        either.node.remove_pod("former")
        new = either.add_pod("new", "10.244.1.14")

        assert not datagram_arrives(new, 4008, either.pods["b"], 53)
        admit("new")
        assert datagram_arrives(new, 4008, either.pods["b"], 53)
    finally:
        for name in {"former", "new"} & either.pods.keys():
            either.node.remove_pod(name)
        either.tell_pods()


def test_a_denied_datagram_does_not_make_the_answer_to_it_pass(either: Stage) -> None:
    either.apply(DENY_B, policy("a-sends-nothing", "a", policyTypes=["Egress"]))
    assert not datagram_arrives(either.pods["a"], 4002, either.pods["b"], 53)
    either.apply(policy("a-receives-nothing", "a"))

    assert not datagram_arrives(either.pods["b"], 53, either.pods["a"], 4002)


def test_what_the_node_sends_in_a_clients_name_is_judged_as_the_clients(either: Stage) -> None:
    """A proxy on the node that keeps the client's address, such as SYNPROXY: not the node's own traffic."""
    node = either.node.netns
    either.apply(policy("from-c", "b", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "c"}}}]}]))
    with node.entered():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw, Wire(either.pods["b"].netns) as wire:
        marks = {"a": token(), "c": token()}
        with in_order():
            for name, mark in marks.items():
                packet = IP(src=either.pods[name].address(4), dst=either.pods["b"].address(4))
                with suppress(PermissionError):  # what a sender on the node is told of a drop
                    raw.sendto(bytes(packet / UDP(dport=80) / Raw(mark)), (either.pods["b"].address(4), 0))

        assert wire.first_of(*marks.values()) == marks["c"]


@pytest.mark.parametrize(
    "disturbance", ["conntrack entries flushed", "our table removed", "all rules flushed"]
)
def test_connection_tracking_taken_away_in_mid_flow_opens_nothing(either: Stage, disturbance: str) -> None:
    either.apply(DENY_B)
    node = either.node.netns
    assert not datagram_arrives(either.pods["a"], 4003, either.pods["b"], 53)
    assert datagram_arrives(either.pods["b"], 4004, either.pods["a"], 53)
    if disturbance == "our table removed":
        node.nft("delete table inet wildcard-operator")
    elif disturbance == "all rules flushed":
        node.nft("flush ruleset")
    else:
        with node.entered(), NFCTSocket() as conntrack:
            conntrack.flush()

    assert not datagram_arrives(either.pods["a"], 4003, either.pods["b"], 53)
    assert not datagram_arrives(
        either.pods["a"], 53, either.pods["b"], 4004
    )  # an answer no more: nobody knows the question
    either.agent.settle()
    tables = node.run("nft", "list", "tables")
    assert "table inet wildcard-operator" in tables
    assert ("table bridge wildcard-operator" in tables) == (either.node.cni == "bridge")
    assert not datagram_arrives(either.pods["a"], 4003, either.pods["b"], 53)
    assert datagram_arrives(either.pods["b"], 4005, either.pods["a"], 53)
    assert datagram_arrives(either.pods["a"], 53, either.pods["b"], 4005)


def test_a_pod_is_isolated_before_its_address_is_known(either: Stage) -> None:
    either.apply(policy("deny-all", None))
    newcomer = either.node.add_pod("d", "10.244.1.14")
    known = [pod_object(pod, either.node.name) for pod in either.pods.values() if pod.name != "d"]
    waiting = pod_object(newcomer, either.node.name)
    waiting["status"] = {}
    node = {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": either.node.name},
        "spec": {"podCIDRs": list(either.node.pod_cidrs)},
    }
    try:
        either.agent.apply(node, *known, waiting, file="pods.yaml")

        assert not datagram_arrives(either.pods["a"], 4006, either.pods["d"], 53)
        assert events(either, "unknown_pod") > 0
    finally:
        either.node.remove_pod("d")
        either.tell_pods()


def test_a_report_of_multicast_listeners_passes_under_isolation(bridged: Stage) -> None:
    bridged.apply(DENY_B)
    group = "ff02::5743"  # which no other frame names
    with from_a(bridged) as sender:
        header = IPv6(src=_link_local(sender.ethernet.src), dst=group, hlim=1)
        report = header / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLReport(mladdr=group)
        frame = Ether(src=sender.ethernet.src, dst="33:33:00:00:57:43") / report

        assert sender.frame_passes(frame, ip_address(group).packed)


def test_neighbour_discovery_and_packet_too_big_pass_under_isolation(either: Stage) -> None:
    either.apply(DENY_B)
    with from_a(either) as sender:
        assert sender.passes(sender.ip(6) / ICMPv6PacketTooBig(mtu=1280))
        assert not sender.passes(sender.ip(6) / ICMPv6EchoRequest())
        if either.node.cni == "bridge":
            advertised = sender.ip(6, hlim=255) / ICMPv6ND_NA(tgt=either.pods["a"].address(6))
            assert sender.passes(advertised)
            assert not sender.passes(sender.ip(6, hlim=64) / ICMPv6ND_NA(tgt="fd00::1"))


def test_other_protocols_of_the_network_layer_are_no_way_around(sender: Sender) -> None:
    assert not sender.passes(sender.ip(4, proto=2) / IGMP())
    assert not sender.passes(sender.ip(4) / ICMP(type=13))
    assert not sender.passes(sender.ip(4) / ICMP(type=3, code=1) / IP(src="10.9.9.9", dst="10.9.9.8") / UDP())
