# SPDX-License-Identifier: Apache-2.0
"""The verdict of a node's tables on a packet, step by step as the programs in the kernel take it.

The head of `model.entries` is what both follow. This one is slow and for people: the simulator, tests and
dumps ask it. A packet may leave open what a probe doesn't state; an entry that asks for it doesn't match,
and the answer says what it depends on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from wildcard_operator.model.entries import AddressRow, Entry, NodeTables, after_filter
from wildcard_operator.model.net import ADDRESS_BITS, ICMP, ICMPV6, Action, Address, Direction

Floor = tuple[int, int]
_START: Final[Floor] = (0, 0)
_NO_SCOPES: Final = (0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection, or what is known of it. ICMP: `sport` is the type, `dport` the
    code."""

    source: Address
    destination: Address
    protocol: int
    sport: int | None = None
    dport: int | None = None
    flags: int | None = None


@dataclass(slots=True)
class Verdict:
    """What one end says. `entry` decided; None: nothing was asked, or nothing matched.

    Attributes:
        audited: Entries of filters in mode Audit that matched on the way; they were counted.
        depends_on: What the packet leaves open and an entry asked for, as fields of a probe.
    """

    allowed: bool = True
    entry: Entry | None = None
    audited: list[Entry] = field(default_factory=list)
    depends_on: set[str] = field(default_factory=set)


class Classifier:
    """Looks packets up in one state of a node's tables."""

    def __init__(self, tables: NodeTables) -> None:
        self._rows = tables.rows
        self._by_scope: dict[tuple[int, int], list[Entry]] = {}
        for entry in tables.entries:
            self._by_scope.setdefault((entry.family, entry.scope), []).append(entry)
        for entries in self._by_scope.values():
            entries.sort(key=_place)

    def row(self, address: Address) -> AddressRow:
        """The row of an address; one of zeros where the table has none."""
        return self._rows.get(address) or AddressRow(0, *_NO_SCOPES)

    def filters(self, packet: Packet, direction: Direction, verdict: Verdict) -> bool:
        """Ask the filters of one end; True where they decided, False for "on to its policies"."""
        own, peer = self._ends(packet, direction)
        scope = own.filter_ingress if direction is Direction.INGRESS else own.filter_egress
        entry = self._first(scope, peer.peer_class, packet, verdict)
        if entry is None or entry.action is Action.PASS:
            return False
        verdict.entry, verdict.allowed = entry, entry.action is Action.ALLOW
        return True

    def policies(self, packet: Packet, direction: Direction, verdict: Verdict) -> bool:
        """Ask the policies of one end; False where it is not isolated."""
        own, peer = self._ends(packet, direction)
        scope = own.policy_ingress if direction is Direction.INGRESS else own.policy_egress
        entry = self._first(scope, peer.peer_class, packet, verdict)
        if entry is None:
            return False
        verdict.entry, verdict.allowed = entry, entry.action is Action.ALLOW
        return True

    def _ends(self, packet: Packet, direction: Direction) -> tuple[AddressRow, AddressRow]:
        """The row of the end that is asked, and of its peer."""
        source, destination = self.row(packet.source), self.row(packet.destination)
        return (destination, source) if direction is Direction.INGRESS else (source, destination)

    def _first(self, scope: int, klass: int, packet: Packet, verdict: Verdict) -> Entry | None:
        """The first entry that matches and isn't mere audit, as lookups with a floor find it."""
        floor = _START
        unheard = Verdict()
        for entry in self._by_scope.get((packet.source.family, scope), ()):
            # What mere audit would have to know changes no answer.
            asking = unheard if entry.audit else verdict
            if (entry.priority, entry.order) < floor or not _matches(entry, klass, packet, asking):
                continue
            if not entry.audit:
                return entry
            verdict.audited.append(entry)
            floor = after_filter(entry.priority, entry.order)
        return None


def _place(entry: Entry) -> tuple[object, ...]:
    """The total order: priority, order, then the key as bytes."""
    protocol = -1 if entry.protocol is None else entry.protocol
    return entry.priority, entry.order, *entry[2:12], protocol


def _matches(entry: Entry, klass: int, packet: Packet, verdict: Verdict) -> bool:
    bits = ADDRESS_BITS[entry.family]
    return (
        _in_prefix(klass, entry.peer_class, entry.class_length, 32)
        and (entry.protocol is None or entry.protocol == packet.protocol)
        and _in_prefix(packet.source.value, entry.saddr, entry.saddr_length, bits)
        and _in_prefix(packet.destination.value, entry.daddr, entry.daddr_length, bits)
        and _ports_match(entry, packet, verdict)
        and _flags_match(entry, packet, verdict)
    )


def _in_prefix(value: int, prefix: int, length: int, bits: int) -> bool:
    return (value ^ prefix) >> (bits - length) == 0


def _ports_match(entry: Entry, packet: Packet, verdict: Verdict) -> bool:
    is_icmp = packet.protocol in {ICMP, ICMPV6}
    sport = _in_range(packet.sport, entry.sport_min, entry.sport_max)
    dport = _in_range(packet.dport, entry.dport_min, entry.dport_max)
    if is_icmp and False not in {sport, dport} and None in {sport, dport}:
        verdict.depends_on.add("icmp")
    if not is_icmp and dport is True and sport is None:
        verdict.depends_on.add("sourcePort")
    return sport is True and dport is True


def _in_range(value: int | None, first: int, last: int) -> bool | None:
    """None where it depends on a value that the packet leaves open."""
    if (first, last) == (0, 65535):
        return True
    return None if value is None else first <= value <= last


def _flags_match(entry: Entry, packet: Packet, verdict: Verdict) -> bool:
    if not entry.flags_mask:
        return True
    if packet.flags is None:
        verdict.depends_on.add("tcpFlags")
        return False
    return packet.flags & entry.flags_mask == entry.flags_value
