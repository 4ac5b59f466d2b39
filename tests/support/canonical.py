# SPDX-License-Identifier: Apache-2.0
"""A node's tables without their arbitrary numbers, so that two of them can be compared.

Scopes become what their entries say, class prefixes the addresses that they cover, orders their rank in the
scope, rule ids their names. Two compilers that were told the same things in another order must agree in all
of it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wildcard_operator.model.entries import Entry, NodeTables
    from wildcard_operator.model.net import Address

Content = frozenset[Any]


def canonical(tables: NodeTables) -> dict[str, Any]:
    """What the tables say, comparable with `==`."""
    contents = scope_contents(tables)
    nothing: Content = frozenset()
    rows = {
        address.text: (
            _pod(tables, row.pod),
            *(contents.get((address.family, scope), nothing) for scope in row[2:]),
        )
        for address, row in tables.rows.items()
        if row.pod
    }
    return {
        "own rows": rows,
        "pods": sorted((pod.namespace, pod.name, pod.addresses) for pod in tables.pods.values()),
        "rules": sorted(map(str, tables.rules.values())),
        "interfaces": {
            i.interface: [
                contents.get((family, scope), nothing) for scope in (i.ingress, i.egress) for family in (4, 6)
            ]
            for i in tables.interfaces
        },
        "unknown pods": tables.unknown_pods,
        "conditions": tables.conditions,
    }


def scope_contents(tables: NodeTables) -> dict[tuple[int, int], Content]:
    """By family and scope: its entries, those that differ in the class alone made one."""
    by_scope: dict[tuple[int, int], list[Entry]] = defaultdict(list)
    for entry in tables.entries:
        by_scope[entry.family, entry.scope].append(entry)
    return {key: _content(entries, tables) for key, entries in by_scope.items()}


def _content(entries: list[Entry], tables: NodeTables) -> Content:
    orders = {order: rank for rank, order in enumerate(sorted({(e.priority, e.order) for e in entries}))}
    peers: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for entry in entries:
        rest = (*entry[4:15], entry.priority, orders[entry.priority, entry.order], entry.action, entry.audit)
        key = (bool(entry.class_length), rest, str(tables.rules[entry.rule]))
        peers[key] |= _covered(entry, tables.rows)
    return frozenset(
        (key, frozenset(addresses)) for key, addresses in peers.items() if addresses or not key[0]
    )


def _covered(entry: Entry, rows: Mapping[Address, Any]) -> set[str]:
    if not entry.class_length:
        return set()
    shift = 32 - entry.class_length
    return {
        address.text
        for address, row in rows.items()
        if address.family == entry.family and row.peer_class >> shift == entry.peer_class >> shift
    }


def _pod(tables: NodeTables, number: int) -> str:
    pod = tables.pods[number]
    return f"{pod.namespace}/{pod.name}"


def told_apart(tables: NodeTables) -> dict[int, frozenset[Entry]]:
    """For each class that an address has, the entries that match it: no two classes should have the same."""
    classes = {row.peer_class for row in tables.rows.values()}
    return {klass: frozenset(e for e in tables.entries if _matches_class(e, klass)) for klass in classes}


def _matches_class(entry: Entry, klass: int) -> bool:
    return (klass ^ entry.peer_class) >> (32 - entry.class_length) == 0
