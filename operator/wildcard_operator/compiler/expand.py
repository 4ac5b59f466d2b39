# SPDX-License-Identifier: Apache-2.0
"""One rule becomes entries: peers x traffic, within its sources and destinations, for each family.

A selector peer fills the class and leaves the prefixes open; a block does the opposite, and so covers pods'
addresses as well. Its excepts become the prefixes that are left, since a hole would cut other rules too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from wildcard_operator.compiler.peer_selectors import ALL_PODS
from wildcard_operator.model.entries import ANY_CLASS, NO_SCOPE, Entry
from wildcard_operator.model.net import ICMP, ICMPV6, V4, V6, Action, Direction, PortRange, Prefix
from wildcard_operator.model.rulesets import AnyPeer, Block, Peer, Pods, Rule, Traffic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from wildcard_operator.compiler.classes import ClassPrefix
    from wildcard_operator.model.addresssets import NamedPort

ANY_PORTS: Final = PortRange(0, 65535)
ANYTHING: Final = {V4: Prefix(V4, 0, 0), V6: Prefix(V6, 0, 0)}

_ANY_TRAFFIC: Final = Traffic()
_FAMILY_OF_ICMP: Final = {ICMP: V4, ICMPV6: V6}


class Peers(Protocol):
    """What expansion asks of the peer table."""

    def cover(self, selector: Pods) -> tuple[ClassPrefix, ...]:
        """The class prefixes of a peer."""

    def named(self, selector: Pods, name: str, protocol: int) -> list[tuple[int, ClassPrefix]]:
        """The numbers of a named port among a peer's classes."""


@dataclass(frozen=True, slots=True)
class Place:
    """What all entries of a rule share. `ports` resolve names for ingress."""

    priority: int
    order: int
    rule_id: int
    audit: bool
    families: Collection[int]
    ports: tuple[NamedPort, ...] = ()


class _End(NamedTuple):
    """The ends of a rule's entries, in one family."""

    klass: ClassPrefix
    source: Prefix
    destination: Prefix


class _Ports(NamedTuple):
    source: PortRange
    destination: PortRange


def expand(rule: Rule, place: Place, peers: Peers) -> Iterable[Entry]:
    """The entries of a rule, each once, of no scope: they are the same in every one."""
    of_rule = (_ANY_TRAFFIC,) if rule.traffic is None else rule.traffic
    return dict.fromkeys(
        _entry(family, end, ports, traffic, rule.action, place)
        for family in place.families
        for traffic in of_rule
        if _in_family(traffic, family)
        for end, ports in _matches(rule, traffic, family, place, peers)
    )


def _in_family(traffic: Traffic, family: int) -> bool:
    """Types and codes are read of the family's own ICMP only."""
    if traffic.icmp_type is None and traffic.icmp_code is None:
        return True
    return _FAMILY_OF_ICMP.get(traffic.protocol or 0) == family


def _matches(
    rule: Rule, traffic: Traffic, family: int, place: Place, peers: Peers
) -> Iterator[tuple[_End, _Ports]]:
    ingress = rule.direction is Direction.INGRESS
    numbers = _destination_ports(traffic, place if ingress else None)
    for source in _prefixes(rule.sources, family):
        for destination in _prefixes(rule.destinations, family):
            for peer in rule.peers:
                for klass, prefix in _peer(peer, family, peers):
                    end = _end(klass, prefix, source, destination, ingress=ingress)
                    for ports in numbers:
                        yield end, ports
                if not ingress:
                    for end, ports in _named(peer, traffic, peers, source, destination):
                        yield end, ports


def _end(
    klass: ClassPrefix, prefix: Prefix | None, source: Prefix, destination: Prefix, *, ingress: bool
) -> _End:
    """Of a block peer the prefix, on the peer's side."""
    if prefix is None:
        return _End(klass, source, destination)
    return _End(klass, prefix, destination) if ingress else _End(klass, source, prefix)


def _prefixes(blocks: tuple[Block, ...] | None, family: int) -> Iterable[Prefix]:
    if blocks is None:
        return (ANYTHING[family],)
    return [prefix for block in blocks if block.cidr.family == family for prefix in block.prefixes()]


def _peer(peer: Peer, family: int, peers: Peers) -> Iterator[tuple[ClassPrefix, Prefix | None]]:
    match peer:
        case AnyPeer():
            yield ANY_CLASS, None
        case Pods():
            for klass in peers.cover(peer):
                yield klass, None
        case Block():
            for prefix in _prefixes((peer,), family):
                yield ANY_CLASS, prefix


def _destination_ports(traffic: Traffic, ingress: Place | None) -> list[_Ports]:
    """Port pairs but for the names of egress, which depend on the peer. ICMP: type and code."""
    if traffic.icmp_type is not None or traffic.icmp_code is not None:
        return [_Ports(_octet(traffic.icmp_type), _octet(traffic.icmp_code))]
    destinations: Iterable[PortRange] = traffic.destination_ports
    if not traffic.destination_ports and not traffic.names:
        destinations = (ANY_PORTS,)
    elif ingress is not None:
        destinations = (*destinations, *_resolved(traffic, ingress.ports))
    return [
        _Ports(source, destination)
        for source in traffic.source_ports or (ANY_PORTS,)
        for destination in destinations
    ]


def _octet(number: int | None) -> PortRange:
    return ANY_PORTS if number is None else PortRange(number, number)


def _resolved(traffic: Traffic, ports: Iterable[NamedPort]) -> Iterator[PortRange]:
    """The numbers that the pod of an ingress scope has under the rule's names, as far as ranges lack them."""
    for port in ports:
        if port.name in traffic.names and port.protocol == traffic.protocol:
            covered = any(ports.first <= port.port <= ports.last for ports in traffic.destination_ports)
            if not covered:
                yield PortRange(port.port, port.port)


def _named(
    peer: Peer, traffic: Traffic, peers: Peers, source: Prefix, destination: Prefix
) -> Iterator[tuple[_End, _Ports]]:
    """Names of egress are those of the destination: only pods have any, so a block has none."""
    if isinstance(peer, Block) or traffic.protocol is None:
        return
    selector = peer if isinstance(peer, Pods) else ALL_PODS
    for name in traffic.names:
        for number, klass in peers.named(selector, name, traffic.protocol):
            for ports in traffic.source_ports or (ANY_PORTS,):
                yield _End(klass, source, destination), _Ports(ports, PortRange(number, number))


def _entry(family: int, end: _End, ports: _Ports, traffic: Traffic, action: Action, place: Place) -> Entry:
    flags = traffic.flags or (0, 0)
    return Entry(
        family,
        NO_SCOPE,
        *end.klass,
        end.source.value,
        end.source.length,
        end.destination.value,
        end.destination.length,
        *ports.source,
        *ports.destination,
        traffic.protocol,
        *flags,
        place.priority,
        place.order,
        action,
        place.rule_id,
        place.audit,
    )
