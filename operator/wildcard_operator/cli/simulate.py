# SPDX-License-Identifier: Apache-2.0
"""`wildcardctl simulate`: who may talk to whom, from manifests alone.

Standard output carries answers only. What is refused, odd or left out goes to standard error. Exit status:
0; 1 where an object was refused (all others are answered for); 2 where a file or a probe can't be read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from wildcard_operator.cli.documents import MANIFESTS, InputError, read_documents, read_objects
from wildcard_operator.cli.tables import console, plain_table
from wildcard_operator.compiler.simulate import Answer, End, Simulator
from wildcard_operator.model.errors import RefusedError

if TYPE_CHECKING:
    from rich.table import Table


@click.command("simulate")
@MANIFESTS
@click.option(
    "--probes",
    "probes_path",
    required=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="A list of {from, to, protocol, port}; an end is namespace/pod or an address.",
)
@click.option("--json", "as_json", is_flag=True, help="A list with one object a probe, for programs.")
def simulate_command(files: tuple[Path, ...], probes_path: Path, as_json: bool) -> None:
    """Answer who may talk to whom, from manifests alone.

    FILES hold Kubernetes objects: YAML documents, JSON, or a List; a folder stands for the files in it.
    A probe may also carry sourcePort, icmp: {type, code} and tcpFlags: [SYN]. Filters on nodes take no part.
    """
    simulator = Simulator(read_objects(files))
    answers = [_answer(simulator, probe, f"{number}") for number, probe in enumerate(_probes(probes_path), 1)]
    if as_json:
        click.echo(json.dumps([answer.to_dict() for answer in answers], indent=2))
    else:
        console().print(_table(answers))
    _tell(simulator)
    if simulator.refusals:
        sys.exit(1)


def _probes(path: Path) -> list[Any]:
    return list(read_documents(path))


def _answer(simulator: Simulator, probe: Any, place: str) -> Answer:
    try:
        return simulator.answer(probe, place)
    except RefusedError as refused:
        raise InputError(str(refused)) from refused


def _tell(simulator: Simulator) -> None:
    """What a reader of the answers should know, on standard error."""
    for refused in simulator.refusals:
        click.echo(f"refused ({refused.reason}): {refused}", err=True)
    for condition in simulator.conditions:
        if condition.reason != "Refused":
            where = "/".join(part for part in (condition.namespace, condition.name, condition.rule) if part)
            click.echo(f"{condition.reason}: {condition.kind} {where}: {condition.message}", err=True)
    if simulator.node_filters:
        click.echo(f"left out, as they target nodes: {', '.join(simulator.node_filters)}", err=True)
    if simulator.passed_over:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(simulator.passed_over.items()))
        click.echo(f"passed over: {kinds}", err=True)


def _table(answers: list[Answer]) -> Table:
    table = plain_table("FROM", "TO", "TRAFFIC", "VERDICT", "EGRESS", "INGRESS", "DEPENDS ON")
    for answer in answers:
        verdict = Text("allowed", "green") if answer.allowed else Text("denied", "red")
        probe = answer.probe
        table.add_row(
            str(probe["from"]),
            str(probe["to"]),
            _traffic(probe),
            verdict,
            _decision(answer.egress),
            _decision(answer.ingress),
            ", ".join(answer.depends_on),
        )
    return table


def _traffic(probe: dict[str, Any]) -> str:
    parts = [str(probe.get("protocol", "TCP"))]
    if "port" in probe:
        parts.append(str(probe["port"]))
    parts += [
        f"{name}={json.dumps(probe[name])}" for name in ("sourcePort", "icmp", "tcpFlags") if name in probe
    ]
    return " ".join(parts)


def _decision(end: End) -> Text:
    if end.by is None:
        return Text(end.reason or "", "dim")
    name = f"{end.by.namespace}/{end.by.name}" if end.by.namespace else end.by.name
    return Text(f"{end.by.kind} {name} {end.by.rule}", "" if end.allowed else "red")
