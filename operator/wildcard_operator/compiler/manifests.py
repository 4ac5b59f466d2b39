# SPDX-License-Identifier: Apache-2.0
"""A node without a cluster: raw objects, as files hold them, become its tables in one process.

The operator's side and the node's side are the ones that a cluster has; only the API between them is left
out.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from wildcard_operator.compiler.cluster import ClusterCompiler, is_known, reference
from wildcard_operator.compiler.events import (
    AddressSetRemoved,
    AddressSetSet,
    Event,
    NamespaceRemoved,
    NamespaceSet,
    NodeRemoved,
    NodeSet,
    PodRemoved,
    PodSet,
    RuleSetRemoved,
    RuleSetSet,
)
from wildcard_operator.compiler.node import NO_RULE_IDS, NodeCompiler
from wildcard_operator.model.errors import ObjectRef, Refusal, RefusedError
from wildcard_operator.model.objects import NAMESPACE, NODE, POD, Namespace, Node, Pod

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wildcard_operator.compiler.config import NodeConfig
    from wildcard_operator.model.entries import Condition, RuleName


class Manifests:
    """All objects of a set of files, one of a name: what comes later under a name is refused.

    `passed_over` counts, by kind, objects that policies don't speak of.
    """

    def __init__(self) -> None:
        self.passed_over: Counter[str] = Counter()
        self._raw: dict[ObjectRef, Any] = {}
        self._duplicates: list[RefusedError] = []
        self._cluster = ClusterCompiler()

    def replace(self, objects: Iterable[Any]) -> list[Event]:
        """Take the objects of all files as they are now; what a node's compiler has to be told."""
        new = self._unique(objects)
        gone = self._raw.keys() - new.keys()
        changed = sorted(ref for ref, raw in new.items() if self._raw.get(ref) != raw)
        self._raw = new
        for ref in gone:
            self._cluster.remove(ref.kind, ref.namespace, ref.name)
        parsed = [(ref, self._cluster.put(new[ref])) for ref in changed]
        events = [event for ref, thing in parsed for event in _told(ref, thing)]
        events += [event for ref in sorted(gone) for event in _told(ref, None)]
        changes = self._cluster.changes()
        for name, ruleset in changes.rulesets.items():
            events.append(RuleSetRemoved(name) if ruleset is None else RuleSetSet(name, ruleset))
        for name, slice_ in changes.address_sets.items():
            events.append(AddressSetRemoved(name) if slice_ is None else AddressSetSet(name, slice_))
        return events

    def pods(self) -> Iterator[Any]:
        """The Pods, as they stand in the files."""
        return (
            raw for ref, raw in self._raw.items() if ref.kind == POD and ref not in self._cluster.refusals
        )

    def refusals(self) -> list[RefusedError]:
        """Objects that are not taken as they are, and why."""
        found = [*self._cluster.refusals.values(), *self._duplicates]
        return sorted(found, key=lambda refused: (refused.ref, refused.path))

    def conditions(self) -> tuple[Condition, ...]:
        """What is odd about policies and filters; refused ones are in it too."""
        return self._cluster.conditions()

    def _unique(self, objects: Iterable[Any]) -> dict[ObjectRef, Any]:
        new: dict[ObjectRef, Any] = {}
        self._duplicates = []
        self.passed_over.clear()
        for number, raw in enumerate(objects):
            ref = reference(raw)
            if ref.kind != "?" and not is_known(raw):
                self.passed_over[ref.kind] += 1
                continue
            if ref.name == "?":
                ref = ObjectRef(ref.kind, ref.namespace, f"? (object {number + 1})")
            if ref in new:
                message = "another object has this name and stands first: rename one of them"
                self._duplicates.append(RefusedError(Refusal.DUPLICATE, ref, "metadata.name", message))
            else:
                new[ref] = raw
        return new


class ManifestCompiler:
    """A node's compiler that is fed with the raw objects of files.

    `node` takes the events of the host (routes, interfaces) and gives the deltas.
    """

    def __init__(
        self, name: str, config: NodeConfig | None = None, rule_ids: Mapping[int, RuleName] = NO_RULE_IDS
    ) -> None:
        self._name = name
        self._manifests = Manifests()
        self.node = NodeCompiler(name, config, rule_ids)

    def replace(self, objects: Iterable[Any]) -> list[RefusedError]:
        """Take the objects of all files as they are now. Returns those that are refused."""
        for event in of_node(self._name, self._manifests.replace(objects)):
            self.node.apply(event)
        return self._manifests.refusals()

    def conditions(self) -> tuple[Condition, ...]:
        """What is odd about policies and filters; refused ones are in it too."""
        return self._manifests.conditions()


def of_node(name: str, events: Iterable[Event]) -> Iterator[Event]:
    """The events that a node's compiler takes: of all nodes it knows itself alone."""
    for event in events:
        match event:
            case NodeSet(node) if node.name != name:
                pass
            case NodeRemoved(other) if other != name:
                pass
            case _:
                yield event


def flatten(document: Any) -> Iterator[Any]:
    """The objects of a YAML or JSON document: itself, the items of a `List` or of a plain list; none of an
    empty one."""
    if isinstance(document, list):
        for item in document:
            yield from flatten(item)
    elif isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        yield from flatten(document.get("items") or [])
    elif document is not None:
        yield document


def _told(ref: ObjectRef, parsed: Pod | Namespace | Node | None) -> list[Event]:
    match parsed:
        case Pod():
            return [PodSet(parsed)]
        case Namespace():
            return [NamespaceSet(parsed)]
        case Node():
            return [NodeSet(parsed)]
        case None if ref.kind == POD:
            return [PodRemoved(ref.namespace, ref.name)]
        case None if ref.kind == NAMESPACE:
            return [NamespaceRemoved(ref.name)]
        case None if ref.kind == NODE:
            return [NodeRemoved(ref.name)]
        case None:
            return []
