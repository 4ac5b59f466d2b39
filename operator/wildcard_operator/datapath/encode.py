# SPDX-License-Identifier: Apache-2.0
"""Tables of a node as rows of the kernel's maps: entries, addresses, interfaces, ranges. Pure.

Keys have the fields of `bpf/lib/maps.h`, in network order; values are the structs of `bpf/abi.h`.
"""

from __future__ import annotations

import struct
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from wildcard_operator.datapath.abi import Abi, abi
from wildcard_operator.model.entries import AddressRow, Entry
from wildcard_operator.model.net import ADDRESS_BITS, V4, Action, Address, Direction, Prefix, address_of
from wildcard_operator.wildcardmap.rules import ANY, Rule, RuleArrays

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from wildcard_operator.model.entries import InterfaceScopes
    from wildcard_operator.wildcardmap.description import Description

_MAPPED_BITS: Final = 96
_HEAD: Final = struct.Struct(">II")
_TAIL: Final = struct.Struct(">HHB")
_PROTOCOLS: Final = 255


def host_mask(bits: int, length: int) -> int:
    """The bits behind a prefix."""
    return (1 << (bits - length)) - 1


def address_key(address: Address) -> bytes:
    """The 16 bytes of an address as the address table has them, IPv4 mapped."""
    return address.number.to_bytes(16)


def address_of_key(key: bytes) -> Address:
    """The inverse of `address_key`."""
    return address_of(int.from_bytes(key))


def range_key(prefix: Prefix) -> tuple[bytes, int]:
    """A prefix as (bytes, length) over mapped addresses."""
    length = prefix.length + (_MAPPED_BITS if prefix.family == V4 else 0)
    return address_key(Address(prefix.family, prefix.value)), length


def range_of_keys(low: bytes, high: bytes) -> str:
    """A range over mapped addresses from its least and greatest address, as text."""
    first, last = int.from_bytes(low[:16]), int.from_bytes(high[:16])
    length = _length(128, first, last)
    address = address_of_key(low[:16])
    return f"{address.text}/{length - _MAPPED_BITS if address.family == V4 else length}"


def rule_arrays(description: Description, entries: Sequence[Entry]) -> RuleArrays:
    """Entries of one family as arrays for its rules map."""
    size = description.key_size
    low, high = bytearray(), bytearray()
    for entry in entries:
        low += _low(entry)
        high += _high(entry)
    return RuleArrays.from_intervals(
        description,
        np.frombuffer(low, np.uint8).reshape(len(entries), size),
        np.frombuffer(high, np.uint8).reshape(len(entries), size),
        priorities=np.array([entry.priority for entry in entries], np.uint32),
        orders=np.array([entry.order for entry in entries], np.uint32),
        rule_ids=np.array([entry.rule for entry in entries], np.uint32),
        values=_decisions(entries),
    )


def _low(entry: Entry) -> bytes:
    size = ADDRESS_BITS[entry.family] // 8
    return b"".join(
        (
            _HEAD.pack(entry.scope, entry.peer_class),
            entry.saddr.to_bytes(size),
            entry.daddr.to_bytes(size),
            _TAIL.pack(entry.sport_min, entry.dport_min, entry.protocol or 0),
        )
    )


def _high(entry: Entry) -> bytes:
    bits = ADDRESS_BITS[entry.family]
    protocol = _PROTOCOLS if entry.protocol is None else entry.protocol
    return b"".join(
        (
            _HEAD.pack(entry.scope, entry.peer_class | host_mask(32, entry.class_length)),
            (entry.saddr | host_mask(bits, entry.saddr_length)).to_bytes(bits // 8),
            (entry.daddr | host_mask(bits, entry.daddr_length)).to_bytes(bits // 8),
            _TAIL.pack(entry.sport_max, entry.dport_max, protocol),
        )
    )


def _decisions(entries: Sequence[Entry]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    layout = abi()
    values = np.zeros(len(entries), layout.decision)
    values["action"] = [layout.actions[Action(entry.action)] for entry in entries]
    values["audit"] = [entry.audit for entry in entries]
    values["flags_value"] = [entry.flags_value for entry in entries]
    values["flags_mask"] = [entry.flags_mask for entry in entries]
    return values.view(np.uint8).reshape(len(entries), layout.decision.itemsize)


def _endpoint(
    layout: Abi, row: AddressRow | None, *, node: bool
) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    value = np.zeros(1, layout.endpoint)
    value["node"] = node
    if row is not None:
        ingress, egress = layout.directions[Direction.INGRESS], layout.directions[Direction.EGRESS]
        value["pod"], value["peer_class"] = row.pod, row.peer_class
        value["policy"][0][ingress], value["policy"][0][egress] = row.policy_ingress, row.policy_egress
        value["filter"][0][ingress], value["filter"][0][egress] = row.filter_ingress, row.filter_egress
    return value


@lru_cache(maxsize=4096)
def endpoint_value(row: AddressRow | None, *, node: bool) -> bytes:
    """The value of an address: what is known of it, and whether it is the node's own. Many are equal."""
    return _endpoint(abi(), row, node=node).tobytes()


def endpoint_row(value: bytes) -> AddressRow | None:
    """What the value of an address says beside "the node's own"; None where that is nothing."""
    known = describe_endpoint(value)
    row = AddressRow(**{name: known[name] for name in AddressRow._fields})
    return row if any(row) else None


def address_arrays(
    description: Description, rows: Mapping[Address, AddressRow], own: Collection[Address]
) -> RuleArrays:
    """All of the address table: addresses that something is known of, and the node's own."""
    addresses = [*rows, *(address for address in own if address not in rows)]
    keys = np.frombuffer(b"".join(map(address_key, addresses)), np.uint8)
    values = b"".join(endpoint_value(rows.get(address), node=address in own) for address in addresses)
    keys = keys.reshape(len(addresses), description.key_size)
    return RuleArrays.from_intervals(
        description,
        keys,
        keys,
        rule_ids=np.zeros(len(addresses), np.uint32),
        values=np.frombuffer(values, np.uint8).reshape(len(addresses), abi().endpoint.itemsize),
    )


def interface_value(rows: Mapping[Address, AddressRow], scopes: InterfaceScopes | None) -> bytes:
    """The value of an interface: the pod behind it by its addresses' rows, and scopes of the node's filters.

    Programs take an address that stands here for what the first row says, so only one whose row says the
    same does.
    """
    layout = abi()
    value = np.zeros(1, layout.interface)
    if rows:
        first = next(iter(rows.values()))
        value["pod"] = _endpoint(layout, first, node=False)
        for address, row in rows.items():
            if row == first:
                member, size = ("v4", 4) if address.family == V4 else ("v6", 16)
                value[member][0] = np.frombuffer(address.value.to_bytes(size), np.uint8)
    if scopes is not None:
        value["host"][0][layout.directions[Direction.INGRESS]] = scopes.ingress
        value["host"][0][layout.directions[Direction.EGRESS]] = scopes.egress
    return value.tobytes()


def describe_endpoint(value: bytes) -> Mapping[str, int]:
    """The value of an address, by the names of `AddressRow`, and `node`."""
    layout = abi()
    record = np.frombuffer(value, layout.endpoint)[0]
    ingress, egress = layout.directions[Direction.INGRESS], layout.directions[Direction.EGRESS]
    return {
        "peer_class": int(record["peer_class"]),
        "pod": int(record["pod"]),
        "policy_ingress": int(record["policy"][ingress]),
        "policy_egress": int(record["policy"][egress]),
        "filter_ingress": int(record["filter"][ingress]),
        "filter_egress": int(record["filter"][egress]),
        "node": int(record["node"]),
    }


def rule(entry: Entry) -> Rule:
    """An entry's key as a rule of its map."""
    return (
        entry.scope,
        (entry.peer_class, entry.class_length),
        (entry.saddr, entry.saddr_length),
        (entry.daddr, entry.daddr_length),
        (entry.sport_min, entry.sport_max),
        (entry.dport_min, entry.dport_max),
        ANY if entry.protocol is None else entry.protocol,
    )


def decision_value(entry: Entry) -> bytes:
    """The value of an entry."""
    return _decisions([entry]).tobytes()


def interface_key(index: int) -> bytes:
    """An interface index as its table has it: in the machine's byte order, as programs get it."""
    return index.to_bytes(4, sys.byteorder)


def interface_of_key(key: bytes) -> int:
    """The inverse of `interface_key`."""
    return int.from_bytes(key[:4], sys.byteorder)


def plain_arrays(description: Description, value_size: int, rows: Sequence[tuple[Rule, bytes]]) -> RuleArrays:
    """Rows of a table without counters."""
    if not rows:
        nothing = np.zeros((0, description.key_size), np.uint8)
        return RuleArrays.from_intervals(
            description, nothing, nothing, values=np.zeros((0, value_size), np.uint8)
        )
    return RuleArrays.from_rules(
        description,
        [key for key, _ in rows],
        rule_ids=[0] * len(rows),
        values=[value for _, value in rows],
    )


def entries_of(family: int, arrays: RuleArrays) -> Iterator[Entry]:
    """The entries that `rule_arrays` wrote, in the order of the arrays."""
    layout = abi()
    actions = {number: action for action, number in layout.actions.items()}
    decisions = np.ascontiguousarray(arrays.value).view(layout.decision).reshape(len(arrays))
    bits = ADDRESS_BITS[family]
    for row in range(len(arrays)):
        low, high = _Key.read(arrays.low[row].tobytes(), bits), _Key.read(arrays.high[row].tobytes(), bits)
        decision = decisions[row]
        yield Entry(
            family=family,
            scope=low.scope,
            peer_class=low.peer_class,
            class_length=_length(32, low.peer_class, high.peer_class),
            saddr=low.saddr,
            saddr_length=_length(bits, low.saddr, high.saddr),
            daddr=low.daddr,
            daddr_length=_length(bits, low.daddr, high.daddr),
            sport_min=low.sport,
            sport_max=high.sport,
            dport_min=low.dport,
            dport_max=high.dport,
            protocol=low.protocol if low.protocol == high.protocol else None,
            flags_value=int(decision["flags_value"]),
            flags_mask=int(decision["flags_mask"]),
            priority=int(arrays.priority[row]),
            order=int(arrays.order[row]),
            action=actions[int(decision["action"])],
            rule=int(arrays.rule_id[row]),
            audit=bool(decision["audit"]),
        )


class _Key(NamedTuple):
    scope: int
    peer_class: int
    saddr: int
    daddr: int
    sport: int
    dport: int
    protocol: int

    @classmethod
    def read(cls, data: bytes, bits: int) -> _Key:
        size = bits // 8
        at = _HEAD.size
        saddr, daddr = data[at : at + size], data[at + size : at + 2 * size]
        scope, peer_class = _HEAD.unpack_from(data)
        sport, dport, protocol = _TAIL.unpack_from(data, at + 2 * size)
        return cls(scope, peer_class, int.from_bytes(saddr), int.from_bytes(daddr), sport, dport, protocol)


def _length(bits: int, low: int, high: int) -> int:
    return bits - (low ^ high).bit_length()
