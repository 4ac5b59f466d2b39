# SPDX-License-Identifier: Apache-2.0
"""The source of objects without Kubernetes: a folder of manifests, compiled in this process.

It follows Pods (with `status.podIPs` and `spec.nodeName`), Namespaces, Nodes, NetworkPolicies and
WildcardFilters.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from wildcard_operator.agent.folder import Folder, FolderWatch
from wildcard_operator.agent.source import Problem
from wildcard_operator.compiler import events
from wildcard_operator.compiler.filters import wildcard_filter
from wildcard_operator.compiler.network_policies import network_policy
from wildcard_operator.model.addresssets import DEFAULT_VOLATILE_LABELS, AddressSet, Group
from wildcard_operator.model.errors import ObjectRef, Refusal, RefusedError
from wildcard_operator.model.objects import (
    Namespace,
    Node,
    Pod,
    parse_namespace,
    parse_node,
    parse_pod,
)
from wildcard_operator.model.rulesets import NETWORK_POLICY, WILDCARD_FILTER, RuleSet, ruleset_name

if TYPE_CHECKING:
    from pathlib import Path

    from wildcard_operator.model.net import Address

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Parsed = tuple[ObjectRef, Pod | Namespace | Node | RuleSet | None]


def _policy(raw: Any) -> Parsed:
    ruleset = network_policy(raw)
    return ruleset.source, ruleset


def _filter(raw: Any) -> Parsed:
    ruleset = wildcard_filter(raw)
    name = ruleset.source if ruleset else ObjectRef(WILDCARD_FILTER, "", raw["metadata"]["name"])
    return name, ruleset


def _object(parse: Callable[[Any], Pod | Namespace | Node]) -> Callable[[Any], Parsed]:
    def run(raw: Any) -> Parsed:
        parsed = parse(raw)
        return parsed.ref, parsed

    return run


_PARSERS: Final[Mapping[str, Callable[[Any], Parsed]]] = {
    "Pod": _object(parse_pod),
    "Namespace": _object(parse_namespace),
    "Node": _object(parse_node),
    NETWORK_POLICY: _policy,
    WILDCARD_FILTER: _filter,
}


def parse_object(raw: Any) -> Parsed | None:
    """An object by its kind; None for a kind that is none of ours. Raises RefusedError."""
    if not isinstance(raw, Mapping) or not isinstance(raw.get("kind"), str):
        raise RefusedError(Refusal.NOT_AN_OBJECT, ObjectRef("", "", ""), "", "not an object: it has no kind")
    parse = _PARSERS.get(raw["kind"])
    return parse(raw) if parse else None


class ManifestSource:
    """A folder as the source of one node's objects. Raises OSError where the folder can't be followed."""

    def __init__(self, path: Path, node: str) -> None:
        self._own = Node(node)
        self._watch = FolderWatch(path)
        self._folder: Folder[Parsed] = Folder(path, parse_object)
        self._duplicates: list[Problem] = []
        self._read = False
        self._namespaces: dict[str, Namespace] = {}
        self._pods: dict[tuple[str, str], Pod] = {}
        self._rulesets: dict[str, RuleSet] = {}
        self._address_sets: dict[str, AddressSet] = {}

    def fileno(self) -> int:
        """Readable when the folder changed."""
        return self._watch.fileno()

    def synced(self) -> bool:
        """Whether the folder was read once."""
        return self._read

    def problems(self) -> list[Problem]:
        """What is wrong with the files at present."""
        return sorted([*self._folder.problems(), *self._duplicates])

    def close(self) -> None:
        """Stop following."""
        self._watch.close()

    def poll(self) -> list[events.Event]:
        """What changed since the last call."""
        self._watch.drain()
        if not self._folder.refresh() and self._read:
            return []
        objects = self._unique()
        found: list[events.Event] = []
        found += self._follow_namespaces(objects)
        found += self._follow_nodes(objects)
        found += self._follow_rulesets(objects)
        found += self._follow_pods(objects)
        if not self._read:
            found.append(events.Synced(None))
        self._read = True
        return found

    def _unique(self) -> dict[ObjectRef, Parsed]:
        """The first of several objects of one name; the others are problems."""
        kept: dict[ObjectRef, Parsed] = {}
        places: dict[ObjectRef, str] = {}
        self._duplicates = []
        for place, (ref, item) in self._folder.objects():
            if ref in kept:
                name = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
                message = f"{places[ref]} has one of this name too, which is in force"
                self._duplicates.append(Problem(place, ref.kind, name, Refusal.DUPLICATE.value, message))
            else:
                kept[ref], places[ref] = (ref, item), place
        return kept

    def _follow_namespaces(self, objects: Mapping[ObjectRef, Parsed]) -> list[events.Event]:
        new = {item.name: item for _, item in objects.values() if isinstance(item, Namespace)}
        changed, removed = _difference(self._namespaces, new)
        self._namespaces = new
        return [
            *(events.NamespaceSet(item) for item in changed.values()),
            *(events.NamespaceRemoved(name) for name in removed),
        ]

    def _follow_nodes(self, objects: Mapping[ObjectRef, Parsed]) -> list[events.Event]:
        named = [
            item for _, item in objects.values() if isinstance(item, Node) and item.name == self._own.name
        ]
        node = named[0] if named else Node(self._own.name)
        changed = not self._read or node != self._own
        self._own = node
        return [events.NodeSet(node)] if changed else []

    def _follow_rulesets(self, objects: Mapping[ObjectRef, Parsed]) -> list[events.Event]:
        new = {ruleset_name(ref): item for ref, item in objects.values() if isinstance(item, RuleSet)}
        changed, removed = _difference(self._rulesets, new)
        self._rulesets = new
        return [
            *(events.RuleSetSet(name, item) for name, item in changed.items()),
            *(events.RuleSetRemoved(name) for name in removed),
        ]

    def _follow_pods(self, objects: Mapping[ObjectRef, Parsed]) -> list[events.Event]:
        pods = [item for _, item in objects.values() if isinstance(item, Pod)]
        own = {(pod.namespace, pod.name): pod for pod in pods if pod.node == self._own.name}
        groups = address_sets(pods)
        changed, removed = _difference(self._pods, own)
        sets_changed, sets_removed = _difference(self._address_sets, groups)
        self._pods, self._address_sets = own, groups
        return [
            *(events.PodSet(pod) for pod in changed.values()),
            *(events.PodRemoved(*name) for name in removed),
            *(events.AddressSetSet(name, item) for name, item in sets_changed.items()),
            *(events.AddressSetRemoved(name) for name in sets_removed),
        ]


def address_sets(pods: Iterable[Pod]) -> dict[str, AddressSet]:
    """The addresses of pods by what they have in common; of two pods with one address the newer has it."""
    owners: dict[Address, Pod] = {}
    for pod in sorted(pods, key=lambda pod: pod.age):
        if not pod.terminal and not pod.host_network:
            owners.update(dict.fromkeys(pod.addresses, pod))
    groups: dict[Group, list[Address]] = {}
    for address, pod in owners.items():
        labels = tuple(item for item in pod.labels if item[0] not in DEFAULT_VOLATILE_LABELS)
        groups.setdefault(Group(pod.namespace, labels, pod.ports), []).append(address)
    return {repr(group): AddressSet(group, tuple(sorted(addresses))) for group, addresses in groups.items()}


def _difference(old: Mapping[K, V], new: Mapping[K, V]) -> tuple[dict[K, V], list[K]]:
    return {key: value for key, value in new.items() if old.get(key) != value}, [
        k for k in old if k not in new
    ]
