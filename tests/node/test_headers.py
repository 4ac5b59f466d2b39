# SPDX-License-Identifier: Apache-2.0
"""Headers of every kind against an isolated pod: what can be read is judged, what can't does not pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet import (
    ICMP,
    IP,
    TCP,
    UDP,
    IPOption_NOP,
    IPOption_Router_Alert,
    IPOption_RR,
)
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    RouterAlert,
)
from scapy.layers.ipsec import AH
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet, Raw

from support.agents import total
from support.objects import policy
from support.wire import Sender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.stage import Stage

ALLOWED = policy(
    "some-ports",
    "b",
    ingress=[
        {
            "ports": [
                {"protocol": "TCP", "port": 8000, "endPort": 8999},
                {"protocol": "UDP", "port": 8000, "endPort": 8999},
                {"protocol": "SCTP", "port": 8000},
                {"protocol": "UDP", "port": 65535},
            ]
        }
    ],
)


@dataclass(frozen=True)
class Situation:
    name: str
    layers: Packet
    passes: bool
    family: int = 4
    event: str = ""
    fields: tuple[tuple[str, object], ...] = ()
    bare: bool = False
    """No token behind it: that would make it whole."""


def _with_options(name: str, options: list[object]) -> list[Situation]:
    fields = (("options", options),)
    return [
        Situation(f"{name}, an open port", TCP(dport=8000), True, fields=fields),
        Situation(f"{name}, a closed port", TCP(dport=80), False, fields=fields),
        Situation(f"{name}, UDP to an open port", UDP(dport=8000), True, fields=fields),
        Situation(f"{name}, UDP to a closed port", UDP(dport=80), False, fields=fields),
    ]


def _behind(name: str, *headers: Packet) -> list[Situation]:
    def stacked(last: Packet) -> Packet:
        packet = headers[0].copy()
        for header in headers[1:]:
            packet /= header.copy()
        return packet / last

    return [
        Situation(f"{name}, an open port", stacked(TCP(dport=8000)), True, 6),
        Situation(f"{name}, a closed port", stacked(TCP(dport=80)), False, 6),
        Situation(f"{name}, UDP to a closed port", stacked(UDP(dport=80)), False, 6),
        Situation(f"{name}, an echo request", stacked(ICMPv6EchoRequest()), False, 6),
    ]


def _edges() -> list[Situation]:
    ports = {7999: False, 8000: True, 8999: True, 9000: False, 1: False}
    found = []
    for family in (4, 6):
        for port, passes in ports.items():
            found += [
                Situation(f"TCP port {port} over IPv{family}", TCP(dport=port), passes, family),
                Situation(f"UDP port {port} over IPv{family}", UDP(dport=port), passes, family),
                # As long as a TCP header: such packets are read in another way.
                Situation(
                    f"UDP port {port} with a payload over IPv{family}",
                    UDP(dport=port) / Raw(bytes(12)),
                    passes,
                    family,
                ),
            ]
        found += [
            Situation(f"UDP port 65535 over IPv{family}", UDP(dport=65535), True, family),
            Situation(f"UDP port 65534 over IPv{family}", UDP(dport=65534), False, family),
            Situation(f"TCP port 65535 over IPv{family}", TCP(dport=65535), False, family),
        ]
    return found


def _cut(layer: Packet, size: int) -> Packet:
    return Raw(bytes(layer)[:size])


def _broken() -> list[Situation]:
    tcp, udp, sctp = TCP(dport=8000), UDP(dport=8000, len=8), SCTP(dport=8000)
    short = tcp.copy()
    short.dataofs = 4
    found = []
    for family, key in ((4, "proto"), (6, "nh")):
        found += [
            Situation("TCP header cut to nothing", Raw(b""), False, family, "malformed", ((key, 6),)),
            Situation("TCP header shorter than it may be", short, False, family, "malformed"),
            Situation("UDP header cut", _cut(udp, 4), False, family, "malformed", ((key, 17),), bare=True),
            Situation("SCTP header cut", _cut(sctp, 2), False, family, "malformed", ((key, 132),)),
        ]
    found += [
        Situation("an unknown protocol", Raw(bytes(8)), False, 4, "", (("proto", 253),)),
        Situation("an unknown protocol", Raw(bytes(8)), False, 6, "", (("nh", 253),)),
        Situation("GRE", Raw(bytes(8)), False, 4, "", (("proto", 47),)),
        Situation("ESP", Raw(bytes(8)), False, 6, "", (("nh", 50),)),
        Situation("no next header", Raw(bytes(8)), False, 6, "", (("nh", 59),)),
        Situation("an echo request", ICMP(type=8), False),
        Situation("nine extension headers", _chain(9), False, 6, "malformed"),
        Situation("eight extension headers", _chain(8), True, 6),
        Situation("an extension header that is cut", Raw(b"\x06"), False, 6, "malformed", (("nh", 60),)),
        Situation("an extension header longer than the packet", _overlong(), False, 6, "malformed"),
    ]
    return found


def _chain(length: int) -> Packet:
    packet: Packet = IPv6ExtHdrDestOpt()
    for _ in range(length - 1):
        packet /= IPv6ExtHdrDestOpt()
    return packet / TCP(dport=8000)


def _overlong() -> Packet:
    header = IPv6ExtHdrDestOpt(len=60)
    return header / TCP(dport=8000)


SITUATIONS = [
    *_edges(),
    *_with_options("router alert", [IPOption_Router_Alert()]),
    *_with_options("forty bytes of options", [IPOption_NOP()] * 40),
    *_with_options("a recorded route", [IPOption_RR(length=11, routers=["0.0.0.0", "0.0.0.0"])]),
    *_behind("hop-by-hop options", IPv6ExtHdrHopByHop(options=[RouterAlert()])),
    *_behind("destination options", IPv6ExtHdrDestOpt()),
    *_behind("two kinds of options", IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt()),
    *_behind("a routing header that is used up", IPv6ExtHdrRouting(segleft=0)),
    *_behind("an atomic fragment", IPv6ExtHdrFragment()),
    *_behind("an authentication header", AH(nh=60, payloadlen=4, icv=b"\0" * 12), IPv6ExtHdrDestOpt()),
    Situation("SCTP to an open port", SCTP(dport=8000) / SCTPChunkInit(init_tag=1), True),
    Situation("SCTP to a closed port", SCTP(dport=8001) / SCTPChunkInit(init_tag=1), False),
    *_broken(),
]


@pytest.fixture(scope="module")
def sender(either: Stage) -> Iterator[Sender]:
    either.apply(ALLOWED)
    with Sender(either.node, either.pods["a"], either.pods["b"]) as made:
        yield made


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: f"{s.name} (IPv{s.family})")
def test_a_header_is_judged_or_dropped(either: Stage, sender: Sender, situation: Situation) -> None:
    before = either.agent.samples()
    packet = sender.ip(situation.family, **dict(situation.fields)) / situation.layers

    passed = sender.passes(packet, bare=situation.bare)

    assert passed == situation.passes
    if situation.event:
        after, name = either.agent.samples(), "wildcard_event_packets_total"
        assert total(after, name, event=situation.event) == total(before, name, event=situation.event) + 1


def test_the_first_piece_of_a_datagram_alone_does_not_pass(either: Stage, sender: Sender) -> None:
    packet = sender.ip(4, flags="MF") / UDP(dport=8000)

    assert not sender.passes(packet)


def test_a_later_piece_alone_does_not_pass(either: Stage, sender: Sender) -> None:
    packet = sender.ip(4, frag=100, proto=17) / Raw(bytes(64))

    assert not sender.passes(packet)


def test_an_ip_packet_within_another_is_not_looked_into(either: Stage, sender: Sender) -> None:
    inner = IP(src="10.244.1.11", dst="10.244.1.12") / TCP(dport=8000)

    assert not sender.passes(sender.ip(4, proto=4) / inner)
