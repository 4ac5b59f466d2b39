# SPDX-License-Identifier: Apache-2.0
"""Filters of nodes: XDP where packets come in, netfilter where they go out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from support.agents import total
from support.bpfbuild import compile_bpf
from support.objects import wildcard_filter
from support.reach import connects
from support.stage import Stage, built_stage
from support.wire import Wire, in_order, mac_of, token
from wildcard_operator.datapath.abi import abi
from wildcard_operator.datapath.pins import Pins

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIMARY = {"nodes": {"interfaces": {"primary": True}}}
PORTS = {
    "name": "ports",
    "action": "Drop",
    "protocol": "TCP",
    "destinationPorts": [{"port": 8000, "endPort": 8999}],
}
PING = {"name": "ping", "action": "Drop", "icmp": {"type": 8}}
PING6 = {"name": "ping6", "action": "Drop", "protocol": "ICMPv6", "icmp": {"type": 128}}
SYN = {
    "name": "syn",
    "action": "Drop",
    "tcpFlags": {"value": ["SYN"], "mask": ["SYN", "ACK"]},
    "destinationPorts": [{"port": 7000}],
}


@pytest.fixture(scope="module")
def node() -> Iterator[Stage]:
    with built_stage("ptp") as built:
        built.apply(wildcard_filter("in", "Ingress", PRIMARY, PORTS, PING, PING6, SYN))
        yield built


def _drops(stage: Stage, rule: str) -> float:
    return total(stage.agent.samples(), "wildcard_rule_packets_total", policy="in", rule=rule)


def _ip(family: int) -> Packet:
    if family == 6:
        return IPv6(src="2001:db8::7", dst="fd00:192:168:50::11")
    return IP(src="198.51.100.7", dst="192.168.50.11")


VLANS = {
    "untagged": [],
    "a tag": [Dot1Q(vlan=7)],
    "VID 0": [Dot1Q(vlan=0)],
    "a service tag and a tag": [Dot1AD(vlan=5), Dot1Q(vlan=7)],
    "three tags": [Dot1Q(vlan=1), Dot1Q(vlan=2), Dot1Q(vlan=3)],
}
# What is sent, the rule that drops it ("" passes), in each family.
JUDGED = [
    (TCP(dport=7999), ""),
    (TCP(dport=8000), "ports"),
    (TCP(dport=8999), "ports"),
    (TCP(dport=9000), ""),
    (UDP(dport=8000), ""),
    (TCP(dport=7000, flags="S"), "syn"),
    (TCP(dport=7000, flags="SA"), ""),
    (TCP(dport=7000, flags="A"), ""),
]


@pytest.mark.parametrize("tags", VLANS)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("layer", "rule"), JUDGED, ids=lambda item: item if isinstance(item, str) else item.summary()
)
def test_a_frame_is_judged_behind_its_tags(
    node: Stage, tags: str, family: int, layer: Packet, rule: str
) -> None:
    frame: Packet = Ether(dst=mac_of(node.node.netns, "eth0"))
    for tag in VLANS[tags]:
        frame /= tag.copy()
    before = {name: _drops(node, name) for name in ("ports", "syn")}

    assert _frame_passes(node, frame / _ip(family) / layer) == (not rule)
    after = {name: _drops(node, name) for name in before}
    assert after == {name: count + (name == rule) for name, count in before.items()}


def _frame_passes(stage: Stage, frame: Packet) -> bool:
    """Whether a frame from outside arrives before an ARP request behind it, which no filter stops."""
    mark, end = token(), token()
    with Wire(stage.fabric.outside) as out, Wire(stage.node.netns) as arrived:
        with in_order():
            out.send(frame / Raw(mark))
            out.send(Ether(dst=frame.dst) / ARP(pdst="192.168.50.11") / Raw(end))
        return arrived.first_of(mark, end) == mark


def _passes(stage: Stage, packet: Packet) -> bool:
    return _frame_passes(stage, Ether(dst=mac_of(stage.node.netns, "eth0")) / packet)


def test_what_claims_to_be_ip_and_cannot_be_read_is_dropped(node: Stage) -> None:
    before = total(node.agent.samples(), "wildcard_event_packets_total", event="malformed")
    broken = [
        _ip(4).copy() / Raw(b"\x00" * 4),
        IP(src="198.51.100.7", dst="192.168.50.11", proto=6) / Raw(b"\x00" * 4),
        IPv6(src="2001:db8::7", dst="fd00:192:168:50::11", nh=0) / Raw(b"\x06\xff"),
    ]
    broken[0].ihl = 3

    assert [_passes(node, frame) for frame in broken] == [False] * 3
    assert total(node.agent.samples(), "wildcard_event_packets_total", event="malformed") == before + 3


def test_icmp_types_and_neighbours(node: Stage) -> None:
    assert not _passes(node, _ip(4) / ICMP(type=8))
    assert _passes(node, _ip(4) / ICMP(type=0))
    assert not _passes(node, _ip(6) / ICMPv6EchoRequest())
    assert not _passes(node, _ip(6) / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest())
    neighbour = IPv6(src="fe80::1", dst="ff02::1", hlim=255) / ICMPv6ND_NS(tgt="fd00:192:168:50::11")
    assert _passes(node, neighbour)
    assert _passes(node, ARP(pdst="192.168.50.11"))


PIECES = {"the first": (0, 1), "one in the middle": (3, 1), "the last": (6, 0)}
ANY_UDP = {"name": "udp", "action": "Drop", "protocol": "UDP"}
ECHO_REPLY = {"name": "pong", "action": "Drop", "icmp": {"type": 0}}


def _piece(family: int, piece: str, protocol: int, layer: Packet) -> Packet:
    """A piece of a datagram that begins with `layer`; what the later ones carry looks like that too."""
    offset, more = PIECES[piece]
    if family == 4:
        return IP(
            src="198.51.100.7", dst="192.168.50.11", frag=offset, flags="MF" if more else 0, proto=protocol
        ) / Raw(bytes(layer))
    return _ip(6) / IPv6ExtHdrFragment(offset=offset, m=more, nh=protocol) / Raw(bytes(layer))


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("family", [4, 6])
def test_of_a_datagram_in_pieces_the_first_is_judged_by_its_ports(
    node: Stage, family: int, piece: str
) -> None:
    node.apply(wildcard_filter("in", "Ingress", PRIMARY, PORTS, ANY_UDP, ECHO_REPLY))
    later, icmp = piece != "the first", 1 if family == 4 else 58
    payload = Raw(bytes(16))
    try:
        assert _passes(node, _piece(family, piece, 6, TCP(dport=8000) / payload)) == later
        assert _passes(node, _piece(family, piece, 6, TCP(dport=9000) / payload))
        assert not _passes(node, _piece(family, piece, 17, UDP(dport=9000) / payload))
        assert _passes(node, _piece(family, piece, icmp, ICMP(type=0) / payload)) == later
    finally:
        node.apply(wildcard_filter("in", "Ingress", PRIMARY, PORTS, PING, PING6, SYN))


@pytest.mark.parametrize("family", [4, 6])
def test_a_first_piece_too_short_for_its_header_is_dropped(node: Stage, family: int) -> None:
    piece = _piece(family, "the first", 6, TCP(dport=9000))
    piece[Raw].load = piece[Raw].load[:8]

    assert not _passes(node, piece)


def test_failsafe_ports_stand_above_every_filter(node: Stage) -> None:
    node.apply(wildcard_filter("all", "Ingress", PRIMARY, {"name": "all", "action": "Drop"}, priority=0))
    outside = node.fabric.outside
    try:
        assert connects(outside, node.node.netns, "192.168.50.11", 22)
        assert connects(outside, node.node.netns, "fd00:192:168:50::11", 6443)
        assert not connects(outside, node.node.netns, "192.168.50.11", 23)
    finally:
        node.apply(wildcard_filter("in", "Ingress", PRIMARY, PORTS, PING, PING6, SYN))


def test_jumbo_frames_pass_and_are_judged(node: Stage) -> None:
    for netns in (node.fabric.outside, node.node.netns):
        netns.up("eth0", mtu=9000)
    for name in ("br0", "p250", "p11"):
        node.fabric.netns.up(name, mtu=9000)

    assert _passes(node, _ip(4) / TCP(dport=9000) / Raw(bytes(8900)))
    assert not _passes(node, _ip(4) / TCP(dport=8500) / Raw(bytes(8900)))


@pytest.mark.parametrize("family", [4, 6])
def test_egress_of_a_node_is_judged_where_it_leaves(family: int) -> None:
    rule = {"name": "smtp", "action": "Drop", "protocol": "TCP", "destinationPorts": [{"port": 25}]}
    outside = "192.168.50.250" if family == 4 else "fd00:192:168:50::250"
    with built_stage("ptp") as built:
        built.apply(wildcard_filter("out", "Egress", PRIMARY, rule))
        for client in (built.node.netns, built.pods["a"].netns):
            assert not connects(client, built.fabric.outside, outside, 25)
            assert connects(client, built.fabric.outside, outside, 26)
        assert connects(built.pods["a"].netns, built.pods["b"].netns, built.pods["b"].address(family), 25)


def test_somebody_elses_xdp_program_stays_and_is_reported(tmp_path: Path) -> None:
    other = compile_bpf(Path(__file__).with_name("somebody_else.bpf.c"), tmp_path)
    attach = ("ip", "link", "set", "dev", "eth0", "xdpgeneric")
    with built_stage("ptp") as built:
        built.node.netns.run(*attach, "obj", str(other), "sec", "xdp")
        built.apply(wildcard_filter("in", "Ingress", PRIMARY, PORTS))

        reported = {"reason": "OtherXdpProgram", "subject": "eth0"}
        assert total(built.agent.samples(), "wildcard_node_condition", **reported) == 1
        assert "xdpgeneric" in built.node.netns.run("ip", "link", "show", "dev", "eth0")
        assert connects(built.fabric.outside, built.node.netns, "192.168.50.11", 8000)

        built.node.netns.run(*attach, "off")
        built.agent.settle()
        assert total(built.agent.samples(), "wildcard_node_condition", **reported) == 0
        assert not connects(built.fabric.outside, built.node.netns, "192.168.50.11", 8000)


def test_the_program_leaves_an_interface_that_no_filter_names(node: Stage) -> None:
    node.apply()
    pins = Pins(node.agent.bpffs, abi().layout_version)
    assert [list(folder.iterdir()) for folder in pins.xdp_folders()] in ([], [[]])
    assert connects(node.fabric.outside, node.node.netns, "192.168.50.11", 8000)
    node.apply(wildcard_filter("in", "Ingress", PRIMARY, PORTS, PING, PING6, SYN))
    assert not connects(node.fabric.outside, node.node.netns, "192.168.50.11", 8000)
