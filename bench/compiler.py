# SPDX-License-Identifier: Apache-2.0
"""How long the compiler takes and what it holds, and whether that meets its goals.

`make bench-compiler` runs every scenario in a process of its own, on one core, and writes the tables of
docs/performance-compiler.md. `compiler.py --scenario NAME PODS POLICIES` runs one and prints its figures as
JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from document import machine, replace_section, table
from policyshapes import PODS_PER_NODE, SHAPES, labels, pod, policy

from wildcard_operator.compiler.address_groups import AddressGroups
from wildcard_operator.compiler.events import (
    AddressSetRemoved,
    AddressSetSet,
    NamespaceSet,
    PodRemoved,
    PodSet,
    RuleSetRemoved,
    RuleSetSet,
)
from wildcard_operator.compiler.network_policies import network_policy
from wildcard_operator.compiler.node import NodeCompiler
from wildcard_operator.model.addresssets import AddressSet, Group
from wildcard_operator.model.errors import ObjectRef
from wildcard_operator.model.net import parse_address
from wildcard_operator.model.objects import Namespace, Pod, parse_namespace, parse_pod
from wildcard_operator.model.rulesets import RuleSet, ruleset_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from policyshapes import Raw

    from wildcard_operator.model.entries import NodeDelta

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance-compiler.md"
EVENTS = 200


# What is measured


@dataclass(slots=True)
class Figures:
    """CPU seconds, but for events (CPU milliseconds: median, 99th percentile, worst) and memory (MiB)."""

    parse: float
    operator: float
    node: float
    entries: int
    rows: int
    classes: int
    memory: float
    remote_pod: tuple[float, float, float]
    local_pod: tuple[float, float, float]
    policy: tuple[float, float, float]
    split: tuple[float, float, float]
    listed: tuple[float, float, float]

    @property
    def compile(self) -> float:
        """From parsed objects to the operator's and one node's complete state."""
        return self.operator + self.node


@dataclass(slots=True)
class Cluster:
    """Parsed objects."""

    pods: list[Pod]
    rulesets: list[RuleSet]
    namespaces: list[Namespace]


def parse(objects: Iterator[Raw]) -> Cluster:
    """As the operator parses what it watches, one by one."""
    pods, rulesets = [], []
    for raw in objects:
        if "podSelector" in raw["spec"]:
            rulesets.append(network_policy(raw))
        else:
            pods.append(parse_pod(raw))
    names = sorted({pod.namespace for pod in pods})
    namespaces = [
        parse_namespace({"metadata": {"name": name, "labels": {"team": f"team-{number % 7}"}}})
        for number, name in enumerate(names)
    ]
    return Cluster(pods, rulesets, namespaces)


def run(shape: str, pods: int, policies: int) -> Figures:
    """One scenario."""
    started = time.process_time()
    cluster = parse(SHAPES[shape](pods, policies))
    parsed = time.process_time()
    groups = AddressGroups()
    for one in cluster.pods:
        groups.set_pod(one)
    slices = groups.changes()
    named = [(ruleset_name(ruleset.source), ruleset) for ruleset in cluster.rulesets]
    published = time.process_time()
    node = NodeCompiler("node-0")
    for namespace in cluster.namespaces:
        node.apply(NamespaceSet(namespace))
    for name, address_set in slices.items():
        if address_set is not None:
            node.apply(AddressSetSet(name, address_set))
    for one in cluster.pods[:PODS_PER_NODE]:
        node.apply(PodSet(one))
    for name, ruleset in named:
        node.apply(RuleSetSet(name, ruleset))
    node.delta()
    done = time.process_time()
    tables = node.tables()
    like_others: Raw | None = None if shape == "chained selectors" else {}
    deltas: list[NodeDelta] = []
    return Figures(
        parse=parsed - started,
        operator=published - parsed,
        node=done - published,
        entries=len(tables.entries),
        rows=len(tables.rows),
        classes=len(node.class_keys()),
        remote_pod=_timed(lambda number: _remote_pod(groups, node, cluster, number)),
        local_pod=_timed(lambda number: _local_pod(node, cluster, number)),
        policy=_timed(lambda number: _policy(node, cluster, number, like_others)),
        split=_timed(lambda number: deltas.append(_policy(node, cluster, number))),
        listed=_timed(lambda number: _list_entries(deltas[number])),
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def _timed(event: Callable[[int], object]) -> tuple[float, float, float]:
    """CPU milliseconds of many events, garbage collection included: median, 99th percentile, worst."""
    spent = []
    for number in range(EVENTS):
        started = time.process_time()
        event(number)
        spent.append((time.process_time() - started) * 1000)
    return statistics.median(spent), statistics.quantiles(spent, n=100, method="inclusive")[98], max(spent)


def _remote_pod(groups: AddressGroups, node: NodeCompiler, cluster: Cluster, number: int) -> None:
    """A pod of a group that is there starts on another node, and ends: operator and node."""
    template = cluster.pods[(number // 2 * 7919) % len(cluster.pods)]
    started = replace(
        template,
        name=f"new-{number // 2}",
        addresses=(parse_address(f"10.255.{number // 256}.{number & 254}"),),
        node="far",
    )
    if number % 2:
        groups.remove_pod(started.namespace, started.name)
    else:
        groups.set_pod(started)
    for name, address_set in groups.changes().items():
        node.apply(AddressSetRemoved(name) if address_set is None else AddressSetSet(name, address_set))
    node.delta()


def _local_pod(node: NodeCompiler, cluster: Cluster, number: int) -> None:
    """A replica of a pod of this node starts here, and ends: the node's own view of it."""
    template = cluster.pods[number // 2 % PODS_PER_NODE]
    if number % 2:
        node.apply(PodRemoved(template.namespace, f"local-{number // 2}"))
    else:
        addresses = (parse_address(f"10.254.{number // 256}.{number & 254}"),)
        node.apply(
            PodSet(replace(template, name=f"local-{number // 2}", uid=f"local-{number}", addresses=addresses))
        )
    node.delta()


def _policy(node: NodeCompiler, cluster: Cluster, number: int, selector: Raw | None = None) -> NodeDelta:
    """A policy that selects pods of this node comes and goes, its peer one that no other has.

    Parsing is included. `selector` selects by it instead of by the labels of one application.
    """
    local = cluster.pods[number // 2 % PODS_PER_NODE]
    other = dict(cluster.pods[(number // 2 * 7919 + 13) % len(cluster.pods)].labels)
    name = f"new-{number // 2}"
    chosen = labels(app=dict(local.labels)["app"]) if selector is None else selector
    raw = policy(name, local.namespace, chosen, {"podSelector": labels(**other)})
    key = ruleset_name(ObjectRef("NetworkPolicy", local.namespace, name))
    node.apply(RuleSetRemoved(key) if number % 2 else RuleSetSet(key, network_policy(raw)))
    return node.delta()


def _list_entries(delta: NodeDelta) -> None:
    """As one who writes them to a kernel: none is kept."""
    deque(chain(delta.entries_removed, delta.entries_added), maxlen=0)


def entries_per_rule(pods: int = 50, namespaces: int = 10) -> float:
    """On a node with isolated pods, each with a policy of its own that allows all namespaces in."""
    node = NodeCompiler("node-0")
    for number in range(pods):
        own = parse_pod(pod(number, f"ns-{number % namespaces}", {"app": f"app-{number}"}))
        node.apply(PodSet(own))
        raw = policy(f"all-{number}", own.namespace, labels(app=f"app-{number}"), {"namespaceSelector": {}})
        node.apply(RuleSetSet(f"all-{number}", network_policy(raw)))
        node.apply(
            AddressSetSet(
                f"set-{number}", AddressSet(Group(own.namespace, own.labels, own.ports), own.addresses)
            )
        )
    node.delta()
    return len(node.tables().entries) / pods


# The report

GOALS = """\
Goals: 2 s for 10,000 pods and 10,000 policies from parsed objects; 60 s and 2 GiB for 100,000 pods and
75,000 policies on one core; 1 ms a pod event and 10 ms a policy event at that size (99th percentile); 10
entries a policy rule on a node with 50 isolated pods whose policies allow all namespaces. **Missed**
marks a figure that does not meet its goal."""

LEGEND = f"""\
Seconds of CPU time, here and below: the compiler waits for nothing, and what else runs on the machine
takes no part. *Parse*: raw objects to dataclasses. *Operator*: pods to AddressSets. *Node*: RuleSets and
AddressSets of the whole cluster to the first complete tables of one node with {PODS_PER_NODE} pods.
*Compile* is operator and node, and at the larger size parse too. Memory in MiB: the whole process with
all parsed objects."""

EVENT_LEGEND = f"""\
Events, milliseconds: median / 99th percentile / worst of {EVENTS}, from the event to the delta. *Remote
pod*: a pod of another node starts or ends, operator and node together. *Local pod*: the node's own.
*Policy*: one like the others of its shape, with a peer selector that is new to the node, comes or goes,
parsing included. *Split*: one that selects a single application, so that its pods leave the scope that
they shared with others, with all its policies. *Listed*: all entries of a split's delta, made one by one
as whoever writes them to a kernel asks for them; no goal speaks of it."""


def measured(shape: str, pods: int, policies: int) -> Figures:
    """A scenario in a process of its own, on one core."""
    command = [sys.executable, __file__, "--scenario", shape, str(pods), str(policies)]
    done = subprocess.run(["taskset", "-c", "0", *command], check=True, stdout=subprocess.PIPE, text=True)
    return Figures(**json.loads(done.stdout))


def report(sizes: list[tuple[int, int]]) -> str:
    """All scenarios as Markdown."""
    scenarios = [(shape, pods, policies) for pods, policies in sizes for shape in SHAPES]
    whole, events = [], []
    for shape, pods, policies in scenarios:
        print(f"{shape}: {pods:,} pods, {policies:,} policies", file=sys.stderr, flush=True)
        figures = measured(shape, pods, policies)
        whole.append(_whole_row(shape, pods, policies, figures))
        events.append(_event_row(shape, pods, figures))
    header = [
        "shape",
        "pods",
        "policies",
        "parse",
        "operator",
        "node",
        "compile",
        "memory",
        "entries",
        "rows",
        "classes",
    ]
    per_rule = _judged(entries_per_rule(), 10, "{:.1f}")
    parts = [
        f"On {machine()}",
        GOALS,
        LEGEND,
        table(header, whole),
        EVENT_LEGEND,
        table(["shape", "pods", "remote pod", "local pod", "policy", "split", "listed"], events),
        f"Entries a policy rule, 50 isolated pods whose policies allow all namespaces: {per_rule}.",
    ]
    return "\n\n".join(parts)


def _whole_row(shape: str, pods: int, policies: int, figures: Figures) -> list[str]:
    large = pods >= 100_000
    seconds = figures.parse + figures.compile if large else figures.compile
    return [
        shape,
        f"{pods:,}",
        f"{policies:,}",
        f"{figures.parse:.2f}",
        f"{figures.operator:.2f}",
        f"{figures.node:.2f}",
        _judged(seconds, 60 if large else 2, "{:.2f}"),
        _judged(figures.memory, 2048, "{:.0f}"),
        f"{figures.entries:,}",
        f"{figures.rows:,}",
        f"{figures.classes:,}",
    ]


def _event_row(shape: str, pods: int, figures: Figures) -> list[str]:
    measured_and_goal = (
        (figures.remote_pod, 1),
        (figures.local_pod, 1),
        (figures.policy, 10),
        (figures.split, 10),
        (figures.listed, math.inf),
    )
    return [shape, f"{pods:,}", *(_event(times, goal) for times, goal in measured_and_goal)]


def _judged(value: float, goal: float, form: str) -> str:
    text = form.format(value)
    return text if value <= goal else f"**missed** {text}"


def _event(figures: tuple[float, float, float], goal: float) -> str:
    text = " / ".join(f"{value:.2f}" for value in figures)
    return text if figures[1] <= goal else f"**missed** {text}"


def main() -> None:
    """Run all, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", nargs=3, metavar=("NAME", "PODS", "POLICIES"))
    chosen = parser.parse_args().scenario
    if chosen:
        print(json.dumps(asdict(run(chosen[0], int(chosen[1]), int(chosen[2])))))
    else:
        replace_section(DOCUMENT, "compiler", report([(10_000, 10_000), (100_000, 75_000)]))


if __name__ == "__main__":
    main()
