# SPDX-License-Identifier: Apache-2.0
"""What is in the kernel of a node now, as plain values for people and programs. Reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wildcard_operator.datapath import encode
from wildcard_operator.datapath.abi import abi
from wildcard_operator.datapath.links import HOOKS
from wildcard_operator.model.entries import POD_CLASS_BIT, SCOPE_SPACE_SHIFT, ScopeSpace
from wildcard_operator.model.net import (
    FAMILIES,
    PROTOCOL_NAMES,
    TCP_FLAGS,
    Prefix,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wildcard_operator.datapath.maps import NodeMaps
    from wildcard_operator.datapath.pins import Pins
    from wildcard_operator.datapath.programs import Control
    from wildcard_operator.model.entries import Entry, RuleName

Values = dict[str, Any]


def snapshot(maps: NodeMaps, pins: Pins, control: Control) -> Values:
    """Everything: rules with their counters, addresses, interfaces, unknown ranges, events and programs."""
    return {
        "rules": list(rules(maps)),
        "addresses": list(addresses(maps)),
        "interfaces": list(interfaces(maps)),
        "droppedUnknownRanges": list(_unknown(maps)),
        "events": {
            name: {"packets": packets, "bytes": octets}
            for name, (packets, octets) in maps.event_counts().items()
        },
        "maps": {
            name: {"entries": len(opened), "capacity": opened.max_entries, "bytes": opened.shape.memory()}
            for name, opened in maps.wildcard_maps.items()
        },
        "programs": programs(pins, control),
    }


def rules(maps: NodeMaps) -> Iterator[Values]:
    """The entries of both families in the order in which they are asked, with the counts of their rules."""
    names, counts = maps.read_names(), maps.rule_counters()
    for family in FAMILIES:
        for entry in encode.entries_of(family, maps.rules[family].entries()):
            yield _rule(entry, names.get(entry.rule)) | {
                "packets": int(counts[entry.rule, 0]),
                "bytes": int(counts[entry.rule, 1]),
            }


def _rule(entry: Entry, name: RuleName | None) -> Values:
    protocol = entry.protocol
    return {
        "family": entry.family,
        "scope": _scope(entry.scope),
        "peer": _peer(entry.peer_class, entry.class_length),
        "source": _prefix(entry.family, entry.saddr, entry.saddr_length),
        "destination": _prefix(entry.family, entry.daddr, entry.daddr_length),
        "sourcePorts": _range(entry.sport_min, entry.sport_max),
        "destinationPorts": _range(entry.dport_min, entry.dport_max),
        "protocol": "any" if protocol is None else PROTOCOL_NAMES.get(protocol, str(protocol)),
        "tcpFlags": _flags(entry.flags_value, entry.flags_mask),
        "priority": entry.priority,
        "order": entry.order,
        "action": entry.action.value,
        "audit": entry.audit,
        "direction": name and name.direction.value,
        "rule": name
        and {"kind": name.kind.value, "namespace": name.namespace, "name": name.name, "rule": name.rule},
    }


def addresses(maps: NodeMaps) -> Iterator[Values]:
    """What is known of each address: its class, and the scopes of the node's own pods."""
    arrays = maps.addresses.entries()
    for key, value in zip(arrays.low, arrays.value, strict=True):
        address = encode.address_of_key(key.tobytes())
        yield {"address": address.text} | _endpoint(value.tobytes()[: abi().endpoint.itemsize])


def interfaces(maps: NodeMaps) -> Iterator[Values]:
    """Interfaces of pods, and those that filters of the node apply to."""
    layout = abi()
    arrays = maps.interfaces.entries()
    for key, value in zip(arrays.low, arrays.value, strict=True):
        record = np.frombuffer(value.tobytes(), layout.interface, 1)[0]
        host = {d.value.lower(): _scope(int(record["host"][at])) for d, at in layout.directions.items()}
        yield {
            "index": encode.interface_of_key(key.tobytes()),
            "pod": int(record["pod"]["pod"]),
            "filters": {direction: scope for direction, scope in host.items() if scope},
        }


def _unknown(maps: NodeMaps) -> list[str]:
    arrays = maps.unknown.entries()
    return [
        encode.range_of_keys(low.tobytes(), high.tobytes())
        for low, high in zip(arrays.low, arrays.high, strict=True)
    ]


def programs(pins: Pins, control: Control) -> Values:
    """Attached programs by the folder of their pins, and which of them judge."""
    active = control.active
    return {
        "netfilter": [
            {
                "build": slot.build,
                "judges": bool(active & slot.bit),
                "hooks": [hook.name for hook in HOOKS if (slot.path / hook.name).exists()],
            }
            for slot in pins.slots()
        ],
        "xdp": [
            dict(zip(("interface", "mode"), path.name.split("-"), strict=True))
            for folder in pins.xdp_folders()
            for path in sorted(folder.iterdir())
        ],
    }


def _endpoint(value: bytes) -> Values:
    known = encode.describe_endpoint(value)
    scopes = {
        name: _scope(known[name])
        for name in ("policy_ingress", "policy_egress", "filter_ingress", "filter_egress")
        if known[name]
    }
    return {
        "class": known["peer_class"] & ~POD_CLASS_BIT if known["peer_class"] else None,
        "pod": known["pod"],
        "node": bool(known["node"]),
        "scopes": scopes,
    }


def _scope(number: int) -> str:
    if not number:
        return ""
    space = ScopeSpace(number >> SCOPE_SPACE_SHIFT)
    return f"{space.name.lower().replace('_', '-')}/{number & ((1 << SCOPE_SPACE_SHIFT) - 1)}"


def _peer(number: int, length: int) -> str:
    if not length:
        return "any"
    return "any pod" if length == 1 else f"class {number & ~POD_CLASS_BIT}/{length - 1}"


def _prefix(family: int, value: int, length: int) -> str:
    return Prefix(family, value, length).text if length else "any"


def _range(first: int, last: int) -> str:
    if (first, last) == (0, 65535):
        return "any"
    return str(first) if first == last else f"{first}-{last}"


def _flags(value: int, mask: int) -> Mapping[str, list[str]] | None:
    if not mask:
        return None
    return {
        "value": [flag for flag, bit in TCP_FLAGS.items() if value & bit],
        "mask": [flag for flag, bit in TCP_FLAGS.items() if mask & bit],
    }
