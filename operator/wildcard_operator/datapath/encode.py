# SPDX-License-Identifier: Apache-2.0
"""Tables of a node as rows of the kernel's maps: entries, addresses, interfaces, ranges. Pure.

Keys have the fields of `bpf/lib/maps.h`, in network order; values are the structs of `bpf/abi.h`.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Final

import numpy as np

from wildcard_operator.datapath.abi import Abi, abi
from wildcard_operator.model.net import ADDRESS_BITS, V4, V6, Action, Address, Direction, Prefix
from wildcard_operator.wildcardmap.rules import ANY, Rule, RuleArrays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wildcard_operator.model.entries import AddressRow, Entry, InterfaceScopes
    from wildcard_operator.wildcardmap.description import Description

_MAPPED: Final = 0xFFFF << 32
_MAPPED_BITS: Final = 96
_HEAD: Final = struct.Struct(">II")
_TAIL: Final = struct.Struct(">HHB")
_PROTOCOLS: Final = 255


def host_mask(bits: int, length: int) -> int:
    """The bits behind a prefix."""
    return (1 << (bits - length)) - 1


def address_key(address: Address) -> bytes:
    """The 16 bytes of an address as the address table has them, IPv4 mapped."""
    return (address.value | _MAPPED if address.family == V4 else address.value).to_bytes(16)


def address_of_key(key: bytes) -> Address:
    """The inverse of `address_key`."""
    value = int.from_bytes(key)
    return Address(V4, value ^ _MAPPED) if value >> 32 == 0xFFFF else Address(V6, value)


def range_key(prefix: Prefix) -> tuple[bytes, int]:
    """A prefix as (bytes, length) over mapped addresses."""
    length = prefix.length + (_MAPPED_BITS if prefix.family == V4 else 0)
    return address_key(Address(prefix.family, prefix.value)), length


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


def endpoint_value(row: AddressRow | None, *, node: bool) -> bytes:
    """The value of an address: what is known of it, and whether it is the node's own."""
    return _endpoint(abi(), row, node=node).tobytes()


def interface_value(row: AddressRow | None, scopes: InterfaceScopes | None) -> bytes:
    """The value of an interface: the row of the pod behind it, and the scopes of the node's filters."""
    layout = abi()
    value = np.zeros(1, layout.interface)
    value["pod"] = _endpoint(layout, row, node=False)
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
    """An interface index as its table has it: the machine's byte order, as the kernel gives it to programs."""
    return index.to_bytes(4, sys.byteorder)


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
