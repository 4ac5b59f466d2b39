# SPDX-License-Identifier: Apache-2.0
"""`wildcardctl compile`: what a node would get, from manifests alone."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from wildcard_operator.cli.documents import MANIFESTS, read_objects
from wildcard_operator.cli.tables import console, plain_table
from wildcard_operator.compiler.events import Interface, InterfacesSet
from wildcard_operator.compiler.manifests import ManifestCompiler
from wildcard_operator.model.entries import SCOPE_SPACE_SHIFT, ScopeSpace
from wildcard_operator.model.net import PROTOCOL_NAMES, TCP_FLAGS, PortRange, Prefix

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from wildcard_operator.model.entries import AddressRow, Entry, NodeTables, RuleName
    from wildcard_operator.model.net import Address


@click.command("compile")
@MANIFESTS
@click.option(
    "--node", required=True, metavar="NAME", help="The node: pods with this spec.nodeName are its own."
)
@click.option(
    "--interface",
    "interfaces",
    multiple=True,
    metavar="NAME",
    help="An interface of the node for filters on nodes; the first carries the default route.",
)
@click.option("--json", "as_json", is_flag=True, help="One object, for programs.")
def compile_command(files: tuple[Path, ...], node: str, interfaces: tuple[str, ...], as_json: bool) -> None:
    """Show the addresses and entries that a node gets.

    FILES hold Kubernetes objects: YAML documents, JSON, or a List; a folder stands for the files in it.
    """
    compiler = ManifestCompiler(node)
    refusals = compiler.replace(read_objects(files))
    found = frozenset(Interface(name, primary=number == 0) for number, name in enumerate(interfaces))
    compiler.node.apply(InterfacesSet(found))
    compiler.node.delta()
    tables = compiler.node.tables()
    if as_json:
        click.echo(json.dumps(_to_dict(tables), indent=2))
    else:
        output = console()
        for table in (_addresses(tables), _entries(tables), _interfaces(tables)):
            if table.row_count:
                output.print(table)
    for refused in refusals:
        click.echo(f"refused ({refused.reason}): {refused}", err=True)
    if refusals:
        sys.exit(1)


def _to_dict(tables: NodeTables) -> dict[str, Any]:
    unknown = tables.unknown_pods
    return {
        "addresses": [{"address": address.text, **row._asdict()} for address, row in _sorted_rows(tables)],
        "entries": [entry._asdict() for entry in _sorted_entries(tables)],
        "rules": {str(number): _rule_dict(name) for number, name in sorted(tables.rules.items())},
        "pods": {str(number): f"{pod.namespace}/{pod.name}" for number, pod in sorted(tables.pods.items())},
        "interfaces": [
            {"interface": i.interface, "ingress": i.ingress, "egress": i.egress} for i in tables.interfaces
        ],
        "unknownPods": {"ranges": [prefix.text for prefix in unknown.ranges], "drop": unknown.drop},
    }


def _rule_dict(name: RuleName) -> dict[str, str]:
    return {
        "kind": name.kind,
        "namespace": name.namespace,
        "name": name.name,
        "rule": name.rule,
        "direction": name.direction,
        "action": name.action,
    }


def _sorted_rows(tables: NodeTables) -> list[tuple[Address, AddressRow]]:
    return sorted(tables.rows.items())


def _sorted_entries(tables: NodeTables) -> list[Entry]:
    return sorted(
        tables.entries, key=lambda e: (e.scope, e.priority, e.order, e.family, e[2:12], e.protocol or -1)
    )


def _addresses(tables: NodeTables) -> Table:
    table = plain_table(
        "ADDRESS", "POD", "CLASS", "POLICIES IN", "OUT", "FILTERS IN", "OUT", title="Addresses"
    )
    for address, row in _sorted_rows(tables):
        pod = tables.pods.get(row.pod)
        scopes = (row.policy_ingress, row.policy_egress, row.filter_ingress, row.filter_egress)
        table.add_row(
            address.text,
            f"{pod.namespace}/{pod.name}" if pod else "",
            f"{row.peer_class:#x}" if row.peer_class else "-",
            *(_scope(scope) for scope in scopes),
        )
    return table


def _entries(tables: NodeTables) -> Table:
    table = plain_table(
        "SCOPE", "PRIORITY", "ACTION", "CLASS", "SOURCE", "DESTINATION", "PROTOCOL", "PORTS", "RULE",
        title="Entries",
    )  # fmt: skip
    for entry in _sorted_entries(tables):
        name = tables.rules[entry.rule]
        table.add_row(
            _scope(entry.scope),
            f"{entry.priority}.{entry.order}",
            f"{entry.action}{' (audit)' if entry.audit else ''}",
            _klass(entry),
            Prefix(entry.family, entry.saddr, entry.saddr_length).text,
            Prefix(entry.family, entry.daddr, entry.daddr_length).text,
            _protocol(entry),
            f"{_ports(entry.sport_min, entry.sport_max)} > {_ports(entry.dport_min, entry.dport_max)}",
            " ".join(
                part for part in (name.kind, f"{name.namespace}/{name.name}".strip("/"), name.rule) if part
            ),
        )
    return table


def _interfaces(tables: NodeTables) -> Table:
    table = plain_table("INTERFACE", "INGRESS", "EGRESS", title="Interfaces")
    for interface in tables.interfaces:
        table.add_row(interface.interface, _scope(interface.ingress), _scope(interface.egress))
    return table


def _scope(number: int) -> str:
    if not number:
        return "-"
    place = number & ((1 << SCOPE_SPACE_SHIFT) - 1)
    space = ScopeSpace(number >> SCOPE_SPACE_SHIFT)
    return str(place) if space is ScopeSpace.POD else f"{space.name.lower().replace('_', '-')}-{place}"


def _protocol(entry: Entry) -> str:
    if entry.protocol is None:
        return "any"
    name = PROTOCOL_NAMES.get(entry.protocol, str(entry.protocol))
    return f"{name} {_flags(entry.flags_value)} of {_flags(entry.flags_mask)}" if entry.flags_mask else name


def _flags(bits: int) -> str:
    return "+".join(name for name, bit in TCP_FLAGS.items() if bits & bit) or "none"


def _klass(entry: Entry) -> str:
    return "any" if not entry.class_length else f"{entry.peer_class:#x}/{entry.class_length}"


def _ports(first: int, last: int) -> str:
    return "*" if (first, last) == (0, 65535) else PortRange(first, last).text
