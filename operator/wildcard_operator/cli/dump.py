# SPDX-License-Identifier: Apache-2.0
"""`wildcardctl dump`: what is in force in this node's kernel, read from the pins."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from wildcard_operator.cli.tables import console, plain_table
from wildcard_operator.datapath import inspection
from wildcard_operator.datapath.abi import abi
from wildcard_operator.datapath.maps import NodeMaps
from wildcard_operator.datapath.pins import FOLDER, Pins
from wildcard_operator.datapath.programs import Control

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

DEFAULT_BPFFS: Final = "/sys/fs/bpf"
if TYPE_CHECKING:
    from rich.table import Table

PARTS: Final = ("rules", "addresses", "interfaces", "events", "programs")


@contextmanager
def opened_node(bpffs: Path) -> Iterator[tuple[NodeMaps, Pins, Control]]:
    """What is pinned below a bpffs, for reading. UsageError where there is nothing."""
    pins = Pins(bpffs, abi().layout_version)
    if not (pins.maps / "events").exists():
        raise click.UsageError(
            f"nothing of ours is pinned in {bpffs / FOLDER}: does an agent run here? (--bpffs)"
        )
    maps = NodeMaps(pins, write=False)
    control = Control(pins)
    try:
        yield maps, pins, control
    finally:
        control.close()
        maps.close()


@click.command("dump")
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option(
    "--bpffs", type=click.Path(file_okay=False, path_type=Path), default=DEFAULT_BPFFS, show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object with everything.")
def dump_command(parts: tuple[str, ...], bpffs: Path, as_json: bool) -> None:
    """Show what is in force in this node's kernel: all of it, or some PARTS."""
    with opened_node(bpffs) as (maps, pins, control):
        found = inspection.snapshot(maps, pins, control)
    wanted = parts or PARTS
    if as_json:
        click.echo(json.dumps({part: found[part] for part in wanted} if parts else found, indent=2))
        return
    output = console()
    for part in wanted:
        for table in _SHOW[part](found[part]):
            output.print(table)


def rule_label(rule: dict[str, str] | None) -> str:
    """A rule's name for people: kind, object, rule."""
    if rule is None:
        return "?"
    name = "/".join(part for part in (rule["namespace"], rule["name"]) if part)
    return f"{rule['kind']} {name} {rule['rule']}".replace("  ", " ")


def _rules(entries: list[dict[str, Any]]) -> Iterable[Table]:
    columns = ("scope", "priority", "peer", "from", "to", "protocol", "ports", "action", "rule", "packets")
    for family in (4, 6):
        table = plain_table(*columns, title=f"Rules, IPv{family}")
        for entry in entries:
            if entry["family"] == family:
                table.add_row(
                    entry["scope"],
                    str(entry["priority"]),
                    entry["peer"],
                    entry["source"],
                    entry["destination"],
                    entry["protocol"],
                    f"{entry['sourcePorts']} > {entry['destinationPorts']}",
                    entry["action"] + (" (audit)" if entry["audit"] else ""),
                    rule_label(entry["rule"]),
                    str(entry["packets"]),
                )
        yield table


def _addresses(rows: list[dict[str, Any]]) -> Iterable[Table]:
    table = plain_table("address", "class", "pod", "scopes", title="Addresses")
    for row in rows:
        scopes = ", ".join(f"{name.replace('_', ' ')} {scope}" for name, scope in row["scopes"].items())
        about = "this node" if row["node"] else scopes
        number = "" if row["class"] is None else str(row["class"])
        table.add_row(row["address"], number, str(row["pod"] or ""), about)
    yield table


def _interfaces(rows: list[dict[str, Any]]) -> Iterable[Table]:
    table = plain_table("index", "pod", "filters", title="Interfaces")
    for row in rows:
        filters = ", ".join(f"{direction} {scope}" for direction, scope in row["filters"].items())
        table.add_row(str(row["index"]), str(row["pod"] or ""), filters)
    yield table


def _events(events: dict[str, dict[str, int]]) -> Iterable[Table]:
    table = plain_table("event", "packets", "bytes", title="Events")
    for name, count in events.items():
        table.add_row(name.replace("_", " "), str(count["packets"]), str(count["bytes"]))
    yield table


def _programs(found: dict[str, list[dict[str, Any]]]) -> Iterable[Table]:
    table = plain_table("kind", "where", "state", title="Programs")
    for program in found["netfilter"]:
        state = "judges" if program["judges"] else "stands by"
        table.add_row("netfilter", ", ".join(program["hooks"]), f"{state}, build {program['build']}")
    for program in found["xdp"]:
        table.add_row("xdp", f"interface {program['interface']}", program["mode"])
    yield table


_SHOW: Final[Mapping[str, Callable[[Any], Iterable[Table]]]] = {
    "rules": _rules,
    "addresses": _addresses,
    "interfaces": _interfaces,
    "events": _events,
    "programs": _programs,
}
