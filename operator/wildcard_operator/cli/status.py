# SPDX-License-Identifier: Apache-2.0
"""`wildcardctl status`: whether policies and filters are in force, from what the API server holds.

On NetworkPolicies nothing is written, so this is where to ask for them. It reads; it needs no operator to
answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from wildcard_operator.cli.options import kubeconfig_option
from wildcard_operator.cli.tables import console, plain_table
from wildcard_operator.controller.status import (
    FilterVerdict,
    Progress,
    filter_progress,
    listed,
    policy_progress,
)
from wildcard_operator.controller.world import World, ready_agent
from wildcard_operator.kube.api import (
    NAMESPACES,
    NETWORK_POLICIES,
    NODE_STATES,
    NODES,
    PODS,
    RULE_SETS,
    WILDCARD_FILTERS,
    ApiError,
    key_of,
    list_all,
)
from wildcard_operator.kube.client import HttpApi, load_configuration
from wildcard_operator.kube.nodestate import ENFORCING, SYNCED, parse_node_state
from wildcard_operator.model.errors import ObjectRef, RefusedError
from wildcard_operator.model.objects import parse_namespace, parse_node, parse_pod
from wildcard_operator.model.ruleset_parser import ruleset_from_dict
from wildcard_operator.model.rulesets import NETWORK_POLICY, WILDCARD_FILTER

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from wildcard_operator.kube.api import Api, Json
    from wildcard_operator.model.rulesets import RuleSet

AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Line:
    """One policy or filter."""

    kind: str
    namespace: str
    name: str
    generation: int
    state: str
    progress: Progress
    message: str = ""

    @property
    def done(self) -> bool:
        """Whether there is nothing to wait for."""
        return self.state in {"InForce", "Off"}

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "kind": self.kind,
            "namespace": self.namespace,
            "name": self.name,
            "generation": self.generation,
            "state": self.state,
            "nodes": {
                "desired": len(self.progress.desired),
                "programmed": len(self.progress.programmed),
                "failed": len(self.progress.failed),
            },
            "lagging": sorted([*self.progress.failed.values(), *self.progress.waiting.values()]),
            "message": self.message,
        }


@dataclass(slots=True)
class Picture:
    """What the API server holds, at one look."""

    world: World = field(default_factory=World)
    rulesets: dict[ObjectRef, tuple[RuleSet, int]] = field(default_factory=dict)
    policies: list[Json] = field(default_factory=list)
    filters: list[Json] = field(default_factory=list)

    def lines(self) -> list[Line]:
        """All policies and filters."""
        return [*map(self._filter, self.filters), *map(self._policy, self.policies)]

    def _filter(self, item: Json) -> Line:
        name, generation = item["metadata"]["name"], item["metadata"].get("generation", 0)
        source = ObjectRef(WILDCARD_FILTER, "", name)
        if item["spec"].get("mode") == "Off":
            return Line(WILDCARD_FILTER, "", name, generation, "Off", Progress())
        for condition in (item.get("status") or {}).get("conditions", []):
            if condition["type"] == "Accepted" and condition["status"] != "True":
                message = f"{condition['reason']}: {condition['message']}"
                return Line(WILDCARD_FILTER, "", name, generation, "Refused", Progress(), message)
        found = self.rulesets.get(source)
        if found is None or found[0].generation != generation:
            return Line(WILDCARD_FILTER, "", name, generation, "NotPublished", Progress())
        progress = filter_progress(name, FilterVerdict(generation, found[0]), self.world)
        return Line(WILDCARD_FILTER, "", name, generation, *_judged(progress))

    def _policy(self, item: Json) -> Line:
        namespace, name = key_of(item)
        generation = item["metadata"].get("generation", 0)
        found = self.rulesets.get(ObjectRef(NETWORK_POLICY, namespace, name))
        if found is None or found[0].generation != generation:
            return Line(NETWORK_POLICY, namespace, name, generation, "NotPublished", Progress())
        progress = policy_progress(*found, self.world)
        return Line(NETWORK_POLICY, namespace, name, generation, *_judged(progress))


def _judged(progress: Progress) -> tuple[str, Progress, str]:
    if progress.failed:
        return "Failed", progress, listed("", progress.failed.values())
    if progress.waiting:
        return "Pending", progress, listed("waiting for", progress.waiting.values())
    return "InForce", progress, ""


@click.command("status")
@click.argument("names", nargs=-1, metavar="[NAMESPACE/POLICY | FILTER]...")
@kubeconfig_option
@click.option("--namespace", default="wildcard-operator", show_default=True, help="The operator's namespace.")
@click.option("--wait", type=float, default=0, metavar="SECONDS", help="Wait until all is in force.")
@click.option("--json", "as_json", is_flag=True, help="One object, for programs.")
def status_command(
    names: tuple[str, ...], kubeconfig: Path | None, namespace: str, wait: float, as_json: bool
) -> None:
    """Show whether policies and filters are in force on all nodes.

    Exits with 1 where one that was asked for isn't, or isn't there.
    """
    try:
        lines, picture = asyncio.run(_look(kubeconfig, namespace, frozenset(names), wait))
    except ApiError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(
            json.dumps({"nodes": _node_dicts(picture.world), "objects": [line.to_dict() for line in lines]})
        )
    else:
        console().print(_node_table(picture.world))
        console().print()
        console().print(_line_table(lines))
    found = {_called(line) for line in lines}
    if missing := sorted(set(names) - found):
        click.echo(f"not found: {', '.join(missing)}", err=True)
    sys.exit(0 if not missing and all(line.done for line in lines) else 1)


async def _look(
    kubeconfig: Path | None, namespace: str, names: frozenset[str], wait: float
) -> tuple[list[Line], Picture]:
    deadline = time.monotonic() + wait
    async with HttpApi(await load_configuration(kubeconfig), "wildcardctl") as api:
        while True:
            picture = await _read(api, namespace)
            lines = [line for line in picture.lines() if not names or _called(line) in names]
            if time.monotonic() >= deadline or all(line.done for line in lines):
                return lines, picture
            await asyncio.sleep(AGAIN_SECONDS)


async def _read(api: Api, namespace: str) -> Picture:
    picture = Picture()
    world = picture.world
    for item in await list_all(api, NODES):
        world.set_node(item["metadata"]["name"], parse_node(item))
    for item in await list_all(api, NAMESPACES):
        world.set_namespace(item["metadata"]["name"], parse_namespace(item))
    for item in await list_all(api, PODS):
        try:
            world.set_pod(key_of(item), parse_pod(item))
        except RefusedError as refusal:
            click.echo(str(refusal), err=True)
        world.set_agent(key_of(item), ready_agent(item, namespace))
    for item in await list_all(api, NODE_STATES):
        world.set_report(item["metadata"]["name"], parse_node_state(item))
    for item in await list_all(api, RULE_SETS, namespace):
        ruleset = ruleset_from_dict(item.get("spec"), ObjectRef("RuleSet", *key_of(item)))
        picture.rulesets[ruleset.source] = ruleset, int(item["metadata"]["resourceVersion"])
    picture.policies = await list_all(api, NETWORK_POLICIES)
    picture.filters = await list_all(api, WILDCARD_FILTERS)
    return picture


def _called(line: Line) -> str:
    return f"{line.namespace}/{line.name}" if line.namespace else line.name


def _node_dicts(world: World) -> list[dict[str, Any]]:
    ready = world.ready_nodes()
    return [
        {
            "name": name,
            "ready": name in ready,
            "enforcing": report is not None and report.holds(ENFORCING),
            "synced": report is not None and report.holds(SYNCED),
            "revision": report.revision if report is not None else 0,
            "reasons": [f"{one.reason}: {one.message}" for one in report.conditions if not one.holds]
            if report is not None
            else ["NoReport: its agent has not reported"],
        }
        for name in sorted(world.node_names())
        for report in (world.reports.get(name),)
    ]


def _node_table(world: World) -> Table:
    table = plain_table("NODE", "AGENT", "ENFORCING", "SYNCED", "REVISION", "REASON")
    for node in _node_dicts(world):
        table.add_row(
            node["name"],
            "ready" if node["ready"] else "not ready",
            str(node["enforcing"]),
            str(node["synced"]),
            str(node["revision"]),
            "; ".join(node["reasons"]),
        )
    return table


def _line_table(lines: list[Line]) -> Table:
    table = plain_table("KIND", "NAMESPACE", "NAME", "GENERATION", "NODES", "STATE", "MESSAGE")
    for line in lines:
        nodes = f"{len(line.progress.programmed)}/{len(line.progress.desired)}"
        row = (line.kind, line.namespace, line.name, str(line.generation), nodes, line.state, line.message)
        table.add_row(*row)
    return table
