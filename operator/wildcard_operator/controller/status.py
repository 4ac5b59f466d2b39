# SPDX-License-Identifier: Apache-2.0
"""The status of WildcardFilters, and how far NetworkPolicies are in force: functions of what is known."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wildcard_operator.kube.nodestate import condition_dict
from wildcard_operator.telemetry.operator_metrics import PolicyStates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wildcard_operator.controller.world import World
    from wildcard_operator.kube.api import Json
    from wildcard_operator.kube.nodestate import NodeReport
    from wildcard_operator.model.rulesets import RuleSet

ACCEPTED = "Accepted"
PROGRAMMED = "Programmed"
CONFLICTED = "Conflicted"
# A message names no more nodes than this, a metric no more policies.
NAMED_NODES = 5
NAMED_POLICIES = 100


@dataclass(frozen=True, slots=True)
class FilterVerdict:
    """What became of a filter's spec.

    Attributes:
        ruleset: None where it is refused, or its mode is Off.
        refusal: Reason and message, where it is refused.
        remarks: What is odd about it; it is carried out all the same.
        conflicts: Sentences about filters of the same priority that disagree with it.
    """

    generation: int
    ruleset: RuleSet | None
    refusal: tuple[str, str] | None = None
    remarks: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """On which nodes a policy or filter is to be in force, and how far it is.

    Attributes:
        failed: Why it can't be, by node; sentences that begin with the node's name.
        waiting: Why it isn't yet, likewise, where nothing was said of it.
        entries: Of the map, on the node where it takes most; counted for filters only.
    """

    desired: frozenset[str] = frozenset()
    programmed: frozenset[str] = frozenset()
    failed: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)
    entries: int = 0


def filter_status(name: str, verdict: FilterVerdict, world: World, previous: Json, now: str) -> Json:
    """The status that a filter should have; `previous` is the one that it has."""
    progress = filter_progress(name, verdict, world)
    before = {one["type"]: one for one in previous.get("conditions", [])}
    conditions = [
        condition_dict(kind, holds, reason, message, before.get(kind), now)
        | {"observedGeneration": verdict.generation}
        for kind, holds, reason, message in (
            (ACCEPTED, *_accepted(verdict)),
            (PROGRAMMED, *_programmed(verdict, progress)),
            (CONFLICTED, *_conflicted(verdict)),
        )
    ]
    return {
        "observedGeneration": verdict.generation,
        "nodes": {
            "desired": len(progress.desired),
            "programmed": len(progress.programmed),
            "failed": len(progress.failed),
        },
        "entriesUsed": progress.entries,
        "conditions": conditions,
    }


def policy_states(policies: Iterable[tuple[RuleSet, int | None]], world: World) -> PolicyStates:
    """How many NetworkPolicies are `programmed` on all nodes with pods of their namespace, `pending`, or
    `failed`, and on how many nodes those lag that do.

    `policies` come with the resourceVersion of their RuleSet, None while that isn't written. A failed one is
    in the list of exceptions of some node.
    """
    ready = world.ready_nodes()
    failed = {
        (one.namespace, one.name)
        for node in ready & world.reports.keys()
        for one in world.reports[node].exceptions
    }
    revisions = {node: world.reports[node].revision for node in ready & world.reports.keys()}
    reached = {
        namespace: min((revisions.get(node, 0) for node in nodes), default=0)
        for namespace, nodes in world.nodes_of_namespace().items()
    }
    counts: Counter[str] = Counter(programmed=0, pending=0, failed=0)
    lagging: dict[str, list[tuple[RuleSet, int | None]]] = {"failed": [], "pending": []}
    for ruleset, version in policies:
        source = ruleset.source
        if (source.namespace, source.name) in failed:
            lagging["failed"].append((ruleset, version))
        elif version is not None and version <= reached.get(source.namespace, version):
            counts["programmed"] += 1
        else:
            lagging["pending"].append((ruleset, version))
    counts.update({state: len(found) for state, found in lagging.items()})
    return PolicyStates(counts, _lagging_nodes(lagging, world))


def _lagging_nodes(
    lagging: Mapping[str, Sequence[tuple[RuleSet, int | None]]], world: World
) -> dict[tuple[str, str, str], int]:
    nodes = {}
    named = ((state, *one) for state, found in lagging.items() for one in found)
    for state, ruleset, version in itertools.islice(named, NAMED_POLICIES):
        progress = policy_progress(ruleset, version, world)
        if count := len(progress.failed) + len(progress.waiting):
            nodes[ruleset.source.namespace, ruleset.source.name, state] = count
    return nodes


def filter_progress(name: str, verdict: FilterVerdict, world: World) -> Progress:
    """How far this generation of a filter is in force."""
    if verdict.ruleset is None:
        return Progress()
    desired = frozenset(world.nodes_for(verdict.ruleset.subject))
    programmed, failed, entries = set(), {}, 0
    for node in desired & world.ready_nodes() & world.reports.keys():
        for state in world.reports[node].filters:
            if state.name == name and state.generation == verdict.generation:
                entries = max(entries, state.entries)
                if state.programmed:
                    programmed.add(node)
                else:
                    failed[node] = f"{node}: {state.reason}: {state.message}"
    return Progress(
        desired, frozenset(programmed), failed, _waiting(desired - programmed - failed.keys(), world), entries
    )


def policy_progress(ruleset: RuleSet, version: int | None, world: World) -> Progress:
    """How far a NetworkPolicy is in force whose RuleSet has this resourceVersion; None: it isn't written."""
    source = ruleset.source
    desired = frozenset(world.nodes_for(ruleset.subject))
    programmed, failed = set(), {}
    for node in desired & world.ready_nodes() & world.reports.keys():
        report = world.reports[node]
        for one in report.exceptions:
            if (one.namespace, one.name) == (source.namespace, source.name):
                failed[node] = f"{node}: {one.reason}: {one.message}"
        if node not in failed and version is not None and version <= report.revision:
            programmed.add(node)
    return Progress(
        desired, frozenset(programmed), failed, _waiting(desired - programmed - failed.keys(), world)
    )


def listed(text: str, things: Iterable[str]) -> str:
    """A text and the first of some things, sorted."""
    found = sorted(things)
    more = f" and {len(found) - NAMED_NODES} more" if len(found) > NAMED_NODES else ""
    return f"{text} {', '.join(found[:NAMED_NODES])}{more}".strip()


def _waiting(nodes: Iterable[str], world: World) -> dict[str, str]:
    ready = world.ready_nodes()
    return {node: f"{node}: {_lag(world.reports.get(node), ready=node in ready)}" for node in nodes}


def _lag(report: NodeReport | None, *, ready: bool) -> str:
    """Why a node has yet to say that something is in force there."""
    if not ready:
        return "its agent is not ready"
    if report is None:
        return "its agent has not reported"
    troubles = (f"{one.reason}: {one.message}" for one in report.conditions if not one.holds)
    return next(troubles, "its agent has not come to it yet")


def _accepted(verdict: FilterVerdict) -> tuple[bool, str, str]:
    if verdict.refusal is not None:
        return False, *verdict.refusal
    if verdict.remarks:
        return True, "AcceptedWithRemarks", "; ".join(verdict.remarks)
    return True, ACCEPTED, "the spec is carried out as it is written"


def _programmed(verdict: FilterVerdict, progress: Progress) -> tuple[bool, str, str]:
    if verdict.refusal is not None:
        return False, "NotAccepted", "a filter that isn't accepted is in force nowhere"
    if verdict.ruleset is None:
        return False, "ModeOff", "the filter's mode is Off"
    if not progress.desired:
        return True, "NoNodes", "its target selects nothing on any node at present"
    if progress.failed:
        return False, "Failed", listed("it can't be in force on", progress.failed.values())
    if progress.waiting:
        return False, "Pending", listed("not yet on", progress.waiting.values())
    return True, PROGRAMMED, f"in force on {len(progress.desired)} nodes"


def _conflicted(verdict: FilterVerdict) -> tuple[bool, str, str]:
    if verdict.conflicts:
        return True, "SamePriority", listed("", verdict.conflicts)
    return False, "NoConflict", "no filter of the same priority disagrees"
