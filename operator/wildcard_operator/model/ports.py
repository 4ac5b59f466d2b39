# SPDX-License-Identifier: Apache-2.0
"""`port`/`endPort` pairs, as NetworkPolicy and WildcardFilter both write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wildcard_operator.model.errors import Refusal
from wildcard_operator.model.net import PortRange

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wildcard_operator.model.fields import Value


def parse_port_range(item: Value) -> PortRange:
    """The range of an object with a numeric `port` and perhaps `endPort`."""
    end = item.field("endPort")
    if end.present and not item.field("port").present:
        end.refuse(Refusal.INVALID_PORT, "endPort needs port beside it, the first of the range")
    first = item.required("port").number(1, 65535, Refusal.INVALID_PORT)
    if not end.present:
        return PortRange(first, first)
    last = end.number(1, 65535, Refusal.INVALID_PORT)
    if last < first:
        end.refuse(Refusal.INVALID_PORT, f"{last} lies below port {first}: write {first} or more")
    return PortRange(first, last)


def merge_ranges(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """The fewest ranges that say the same, sorted."""
    merged: list[PortRange] = []
    for ports in sorted(ranges):
        if merged and ports.first <= merged[-1].last + 1:
            merged[-1] = PortRange(merged[-1].first, max(merged[-1].last, ports.last))
        else:
            merged.append(ports)
    return tuple(merged)
