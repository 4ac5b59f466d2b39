# SPDX-License-Identifier: Apache-2.0
"""Addresses, prefixes, port ranges and protocols.

An address is a family (4 or 6) and an int, as in `ipaddress`; a prefix adds a length and has no host bits
set.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import Final, NamedTuple

V4: Final = 4
V6: Final = 6
FAMILIES: Final = (V4, V6)
ADDRESS_BITS: Final = {V4: 32, V6: 128}

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
SCTP: Final = 132
PROTOCOL_NUMBERS: Final = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP, "ICMP": ICMP, "ICMPv6": ICMPV6}
PROTOCOL_NAMES: Final = {number: name for name, number in PROTOCOL_NUMBERS.items()}
PORT_PROTOCOLS: Final = (TCP, UDP, SCTP)
ICMP_OF_FAMILY: Final = {V4: ICMP, V6: ICMPV6}

TCP_FLAGS: Final = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128}

_V4_MAPPED: Final = 0xFFFF << 32


class Direction(enum.StrEnum):
    """Of traffic, seen from the pod or node that a policy applies to."""

    INGRESS = "Ingress"
    EGRESS = "Egress"


class Action(enum.StrEnum):
    """What a rule does with the packets that it matches. PASS: no more filters, on to the policies."""

    ALLOW = "Allow"
    DROP = "Drop"
    PASS = "Pass"  # noqa: S105 (a verdict, not a password)


class Address(NamedTuple):
    """One address; a tuple because a node holds a hundred thousand of them as keys."""

    family: int
    value: int

    @property
    def text(self) -> str:
        """As people write it."""
        return str(
            ipaddress.IPv4Address(self.value) if self.family == V4 else ipaddress.IPv6Address(self.value)
        )

    @property
    def number(self) -> int:
        """The address as one int, an IPv4 one mapped into IPv6."""
        return self.value | _V4_MAPPED if self.family == V4 else self.value

    @property
    def prefix(self) -> Prefix:
        """The prefix that holds this address alone."""
        return Prefix(self.family, self.value, ADDRESS_BITS[self.family])


class Prefix(NamedTuple):
    """A range of addresses with a common start; host bits are zero."""

    family: int
    value: int
    length: int

    @property
    def text(self) -> str:
        """As people write it."""
        return f"{Address(self.family, self.value).text}/{self.length}"

    def contains(self, other: Prefix) -> bool:
        """Whether every address of `other` lies in this prefix."""
        shift = ADDRESS_BITS[self.family] - self.length
        return (
            self.family == other.family
            and self.length <= other.length
            and other.value >> shift == self.value >> shift
        )

    def without(self, holes: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
        """The fewest prefixes that cover this one less the holes; () where the holes cover it all."""
        inside = [hole for hole in holes if self.contains(hole)]
        if any(hole.contains(self) for hole in holes):
            return ()
        if not inside:
            return (self,)
        low = Prefix(self.family, self.value, self.length + 1)
        half = 1 << (ADDRESS_BITS[self.family] - self.length - 1)
        high = Prefix(self.family, self.value | half, self.length + 1)
        return low.without(tuple(inside)) + high.without(tuple(inside))


class PortRange(NamedTuple):
    """Ports from `first` to `last`, both included."""

    first: int
    last: int

    @property
    def text(self) -> str:
        """As people write it: one port, or `first-last`."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def address_of(number: int) -> Address:
    """The address of a `number`."""
    return Address(V4, number ^ _V4_MAPPED) if number >> 32 == 0xFFFF else Address(V6, number)


def parse_address(text: str) -> Address:
    """An address from its text, a v4-mapped one as IPv4. ValueError says what is wrong."""
    parsed = ipaddress.ip_address(text)
    if parsed.version == V6 and parsed.ipv4_mapped is not None:
        return Address(V4, int(parsed.ipv4_mapped))
    return Address(parsed.version, int(parsed))


def parse_prefix(text: str) -> tuple[Prefix, bool]:
    """A prefix from `address/length`, host bits masked; True beside it where there were some.

    ValueError for anything else, a v4-mapped prefix among it: nobody's packets carry such addresses.
    """
    length = text.partition("/")[2]
    if not (
        length.isascii() and length.isdecimal()
    ):  # a netmask behind the slash means other things elsewhere
        raise ValueError("it has no prefix length: write address/length, for example 10.0.0.0/8")
    network = ipaddress.ip_network(text, strict=False)
    value = int(network.network_address)
    if network.version == V6 and network.prefixlen >= 96 and value >> 32 << 32 == _V4_MAPPED:
        raise ValueError("it is an IPv4-mapped IPv6 prefix: write the IPv4 prefix instead")
    host_bits = int(ipaddress.ip_address(text.partition("/")[0])) != value
    return Prefix(network.version, value, network.prefixlen), host_bits
