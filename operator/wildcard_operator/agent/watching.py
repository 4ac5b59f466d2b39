# SPDX-License-Identifier: Apache-2.0
"""What a node's agent watches in the API server: five watches, of which the two large ones are cut down by
the server.

RuleSets are asked for by the namespaces of the node's own pods, AddressSets by the namespaces that these
RuleSets' peers reach; where that is most of the cluster anyway, all are asked for. Everything becomes events
of the node's compiler, in an order in which isolation never comes too late: a namespace counts as in sync
only after its RuleSets.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from wildcard_operator.agent.source import Problem
from wildcard_operator.compiler import events
from wildcard_operator.kube.api import ADDRESS_SETS, NAMESPACES, NODES, PODS, RULE_SETS, key_of
from wildcard_operator.kube.publish import NAMESPACE_LABEL
from wildcard_operator.kube.reflector import Reflector, Store
from wildcard_operator.kube.selected import SelectedReflector
from wildcard_operator.model.addresssets import address_set_from_dict
from wildcard_operator.model.errors import ObjectRef, RefusedError
from wildcard_operator.model.objects import parse_namespace, parse_node, parse_pod
from wildcard_operator.model.ruleset_parser import ruleset_from_dict
from wildcard_operator.model.rulesets import Pods

if TYPE_CHECKING:
    from collections.abc import Callable

    from wildcard_operator.kube.api import Api, ApiError, Json, Resource
    from wildcard_operator.kube.reflector import Key
    from wildcard_operator.model.objects import Namespace, Pod
    from wildcard_operator.model.rulesets import RuleSet

# More namespaces than this in a selector, and everything is asked for instead.
MANY_NAMESPACES = 100
# How long a selector keeps namespaces that are of no more use: each change of it reads the rest again.
SHRINK_SECONDS = 60.0
PLACE = "kubernetes"


class Watches:
    """All watches of one node.

    Parameters:
        emit: gets every event.
        on_node: gets the uid of the node's object.

    Attributes:
        problems: What is wrong with which object.
        synced: Whether all there is has been emitted once.
    """

    def __init__(
        self,
        api: Api,
        node: str,
        namespace: str,
        emit: Callable[[events.Event], None],
        on_node: Callable[[str], None],
        on_error: Callable[[Resource, ApiError], None],
    ) -> None:
        self.problems: dict[ObjectRef, Problem] = {}
        self.synced = False
        self._emit = emit
        self._on_node = on_node
        self._pods: dict[Key, Pod] = {}
        self._namespaces: dict[str, Namespace] = {}
        self._rulesets: dict[str, RuleSet] = {}
        self._changed = asyncio.Event()
        self._rulesets_of = _Choice()
        self._addresses_of = _Choice()
        self._plain = [
            Reflector(
                api, PODS, self._store(PODS), selectors=_field("spec.nodeName", node), on_error=on_error
            ),
            Reflector(
                api, NODES, self._store(NODES), selectors=_field("metadata.name", node), on_error=on_error
            ),
            Reflector(api, NAMESPACES, self._store(NAMESPACES), metadata_only=True, on_error=on_error),
        ]
        self._ruleset_watch, self._address_watch = (
            SelectedReflector(api, resource, namespace, self._store(resource), on_error, on_synced)
            for resource, on_synced in (
                (RULE_SETS, self._rulesets_are_synced),
                (ADDRESS_SETS, self._addresses_are_synced),
            )
        )

    @property
    def revision(self) -> int:
        """The resourceVersion up to which every change of a RuleSet was emitted."""
        return self._ruleset_watch.version

    async def run(self) -> None:
        """Watch until cancelled."""
        self._emit(events.Synced(frozenset()))
        async with asyncio.TaskGroup() as group:
            for reflector in self._plain:
                group.create_task(reflector.run())
            for reflector in self._plain:
                await reflector.synced.wait()
            group.create_task(self._ruleset_watch.run())
            group.create_task(self._address_watch.run())
            group.create_task(self._choose())

    async def _choose(self) -> None:
        """Keep the selectors of the two large watches right."""
        while True:
            self._changed.clear()
            self._rulesets_of.choose({pod.namespace for pod in self._pods.values()})
            self._ruleset_watch.select(self._rulesets_of.namespaces)
            if self._ruleset_watch.version:
                self._addresses_of.choose(self._reachable())
                self._address_watch.select(self._addresses_of.namespaces)
            try:
                await asyncio.wait_for(self._changed.wait(), SHRINK_SECONDS)
            except TimeoutError:
                continue

    def _reachable(self) -> set[str]:
        """The namespaces whose pods some peer of a RuleSet may select."""
        selections = {
            peer.namespaces
            for ruleset in self._rulesets.values()
            for rule in ruleset.rules
            for peer in rule.peers
            if isinstance(peer, Pods)
        }
        selectors = {selection.selector for selection in selections if not selection.name}
        found = {selection.name for selection in selections if selection.name}
        for namespace in self._namespaces.values():
            labels = dict(namespace.labels)
            if any(selector.matches(labels) for selector in selectors):
                found.add(namespace.name)
        return found

    def _rulesets_are_synced(self, namespaces: frozenset[str] | None) -> None:
        self._emit(events.Synced(namespaces))
        self._changed.set()

    def _addresses_are_synced(self, _namespaces: frozenset[str] | None) -> None:
        self.synced = True
        self._emit(events.Synced(self._ruleset_watch.synced_for))

    def _store(self, resource: Resource) -> Store:
        return Store(_Sink(self, resource))

    def take(self, resource: Resource, key: Key, item: Json | None) -> None:
        """Take an object as it is now; None: it is gone. What can't be read is a problem, and counts as
        gone.
        """
        ref = ObjectRef(resource.kind, *key)
        self.problems.pop(ref, None)
        if item is not None:
            try:
                self._put(resource, key, item)
            except RefusedError as refusal:
                message = f"{refusal.path}: {refusal.message}"
                name = "/".join(part for part in key if part)
                self.problems[ref] = Problem(PLACE, resource.kind, name, refusal.reason.value, message)
            else:
                return
        self._remove(resource, key)

    def _put(self, resource: Resource, key: Key, item: Json) -> None:
        name = key[1]
        match resource.kind:
            case "Pod":
                pod = parse_pod(item)
                if key not in self._pods:
                    self._changed.set()
                self._pods[key] = pod
                self._emit(events.PodSet(pod))
            case "Node":
                self._emit(events.NodeSet(parse_node(item)))
                self._on_node(item["metadata"]["uid"])
            case "Namespace":
                namespace = parse_namespace(item)
                if self._namespaces.get(name) != namespace:
                    self._namespaces[name] = namespace
                    self._emit(events.NamespaceSet(namespace))
                    self._changed.set()
            case "RuleSet":
                ruleset = ruleset_from_dict(item.get("spec"), _speaks_of(item))
                self._rulesets[name] = ruleset
                self._emit(events.RuleSetSet(name, ruleset))
                self._changed.set()
            case _:
                address_set = address_set_from_dict(name, item.get("spec"))
                self._emit(events.AddressSetSet(name, address_set))

    def _remove(self, resource: Resource, key: Key) -> None:
        name = key[1]
        match resource.kind:
            case "Pod":
                self._pods.pop(key, None)
                self._emit(events.PodRemoved(*key))
            case "Namespace":
                self._namespaces.pop(name, None)
                self._emit(events.NamespaceRemoved(name))
            case "RuleSet":
                self._rulesets.pop(name, None)
                self._emit(events.RuleSetRemoved(name))
            case "AddressSet":
                self._emit(events.AddressSetRemoved(name))
            case _:
                return  # the node's own object: what was known of it stays
        self._changed.set()


class _Sink:
    def __init__(self, watches: Watches, resource: Resource) -> None:
        self._watches = watches
        self._resource = resource

    def put(self, item: Json) -> None:
        self._watches.take(self._resource, key_of(item), item)

    def remove(self, key: Key) -> None:
        self._watches.take(self._resource, key, None)


class _Choice:
    """The namespaces of a selector: they grow at once and shrink late."""

    def __init__(self) -> None:
        self.namespaces: frozenset[str] | None = frozenset()
        self._shrink_at: float | None = None

    def choose(self, wanted: set[str]) -> None:
        """Take what is wanted now; to be called again at least every SHRINK_SECONDS."""
        now = time.monotonic()
        new = frozenset(wanted) if len(wanted) <= MANY_NAMESPACES else None
        grows = new is None or (self.namespaces is not None and not new <= self.namespaces)
        if not grows and new != self.namespaces and self._shrink_at is None:
            self._shrink_at = now + SHRINK_SECONDS
        elif grows or new == self.namespaces or now >= (self._shrink_at or now):
            self.namespaces, self._shrink_at = new, None


def _field(name: str, value: str) -> dict[str, str]:
    return {"fieldSelector": f"{name}={value}"}


def _speaks_of(item: Json) -> ObjectRef:
    """Whom a RuleSet isolates where its spec can't be read: the namespace of its label."""
    metadata = item["metadata"]
    return ObjectRef("RuleSet", (metadata.get("labels") or {}).get(NAMESPACE_LABEL, ""), metadata["name"])
