# SPDX-License-Identifier: Apache-2.0
"""From watched objects to wanted ones: the compiler takes every change in, the publisher gets what follows
from it.

Changes are gathered for 20 ms, which makes one write of many. Addresses that go wait for a second, as long as
their owner may still answer; a pod that changes its labels is in its new group before it leaves the old one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from wildcard_operator.compiler.address_groups import AddressGroups
from wildcard_operator.compiler.cluster import reference
from wildcard_operator.controller.status import FilterVerdict
from wildcard_operator.controller.world import ready_agent
from wildcard_operator.kube.api import ADDRESS_SETS, NODES, PODS, RULE_SETS
from wildcard_operator.kube.slices import Slices
from wildcard_operator.model.addresssets import address_set_from_dict
from wildcard_operator.model.entries import Reason
from wildcard_operator.model.errors import ObjectRef, Refusal, RefusedError
from wildcard_operator.model.objects import Namespace, Node, Pod
from wildcard_operator.model.rulesets import NETWORK_POLICY, WILDCARD_FILTER, ruleset_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from wildcard_operator.compiler.cluster import ClusterCompiler
    from wildcard_operator.controller.settings import Settings
    from wildcard_operator.controller.world import World
    from wildcard_operator.kube.api import Json, Resource
    from wildcard_operator.kube.publish import Publisher
    from wildcard_operator.kube.reflector import Key
    from wildcard_operator.model.addresssets import AddressSet
    from wildcard_operator.model.rulesets import RuleSet

log = structlog.get_logger()

GATHER_SECONDS = 0.02
REMOVAL_SECONDS = 1.0


class Pipeline:
    """Takes what the sources say, and tells the publisher what is wanted."""

    def __init__(
        self,
        settings: Settings,
        compiler: ClusterCompiler,
        world: World,
        publisher: Publisher,
    ) -> None:
        self._settings = settings
        self._compiler = compiler
        self._world = world
        self._publisher = publisher
        self._touched: Callable[[], None] = lambda: None
        self._pods: dict[Key, Pod] = {}
        self._nodes: dict[str, Node] = {}
        self._generations: dict[str, int] = {}
        self._rulesets: dict[str, RuleSet] = {}
        self._address_sets: dict[str, AddressSet] = {}
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()

    def on_change(self, touched: Callable[[], None]) -> None:
        """Call this whenever something changes that a status may depend on."""
        self._touched = touched

    def take(self, resource: Resource, key: Key, item: Json | None) -> None:
        """Take an object of one of the compiler's kinds as it is now; None: it is gone."""
        parsed = None
        if item is None:
            self._compiler.remove(resource.kind, *key)
        else:
            item["kind"] = resource.kind  # which lists leave out
            parsed = self._compiled(item)
        if resource == PODS:
            self._take_pod(key, item, parsed if isinstance(parsed, Pod) else None)
        elif resource == NODES:
            self._take_node(key[1], parsed if isinstance(parsed, Node) else None)
        elif resource.kind == WILDCARD_FILTER:
            self._take_filter(key[1], item)
        elif resource.kind != NETWORK_POLICY:
            self._world.set_namespace(key[1], parsed if isinstance(parsed, Namespace) else None)
        self._changed.set()
        self._touched()

    async def run(self) -> None:
        """Hand on what changed, until cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(GATHER_SECONDS)
            async with self._lock:
                await self._flush()

    async def lead(self, published: Iterable[Json]) -> None:
        """Lay the addresses out in the slices that are published, whoever chose these.

        Afterwards the publisher knows all that is wanted. What changes meanwhile is in the new layout too.
        """
        async with self._lock:
            await self._flush()
            groups, slices = AddressGroups(self._settings.volatile_labels), Slices()
            before, self._address_sets = self._address_sets, dict(_readable(published))
            for name in before.keys() - self._address_sets.keys():
                self._publisher.drop(ADDRESS_SETS, name)
            for name, address_set in self._address_sets.items():
                groups.adopt(name, address_set)
                self._publisher.want(ADDRESS_SETS, name, address_set, address_set.group.namespace)
                await slices.breathe()
            self._compiler.addresses = groups
            for name in list(self._nodes):
                groups.set_node(name, self._nodes.get(name))
                await slices.breathe()
            for key in list(self._pods):
                if (pod := self._pods.get(key)) is not None:
                    groups.set_pod(pod)
                await slices.breathe()
            await self._flush()

    def verdicts(self) -> dict[str, FilterVerdict]:
        """What became of each WildcardFilter."""
        remarks: dict[str, list[str]] = {}
        conflicts: dict[str, list[str]] = {}
        for condition in self._compiler.conditions():
            if condition.kind == WILDCARD_FILTER and condition.reason is not Reason.REFUSED:
                kind = conflicts if condition.reason is Reason.CONFLICTED else remarks
                text = f"rule {condition.rule}: {condition.message}" if condition.rule else condition.message
                kind.setdefault(condition.name, []).append(text)
        found = {}
        for name, generation in self._generations.items():
            source = ObjectRef(WILDCARD_FILTER, "", name)
            refusal = self._compiler.refusals.get(source)
            found[name] = FilterVerdict(
                generation,
                self._rulesets.get(ruleset_name(source)),
                None if refusal is None else (refusal.reason.value, str(refusal)),
                tuple(remarks.get(name, ())),
                tuple(conflicts.get(name, ())),
            )
        return found

    def policies(self) -> Iterator[tuple[RuleSet, int | None]]:
        """The RuleSets of all NetworkPolicies, with the resourceVersion where it is written."""
        for name, ruleset in self._rulesets.items():
            if ruleset.source.kind == NETWORK_POLICY:
                yield ruleset, self._publisher.version(RULE_SETS, name)

    def refused(self) -> list[tuple[str, str]]:
        """Kind and reason of every object that can't be carried out."""
        return [(ref.kind, refusal.reason.value) for ref, refusal in self._compiler.refusals.items()]

    def splitting_labels(self) -> dict[str, int]:
        """Labels that make very many groups of one pod."""
        return self._compiler.addresses.splitting_labels()

    def _take_pod(self, key: Key, item: Json | None, pod: Pod | None) -> None:
        if pod is None:
            self._pods.pop(key, None)
        else:
            self._pods[key] = pod
        self._world.set_pod(key, pod)
        self._world.set_agent(key, None if item is None else ready_agent(item, self._settings.namespace))

    def _take_node(self, name: str, node: Node | None) -> None:
        if node is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = node
        self._world.set_node(name, node)

    def _compiled(self, item: Json) -> Pod | Namespace | Node | None:
        """Compile an object; a defect of ours in one may neither keep the others out nor open its pods."""
        try:
            return self._compiler.put(item)
        except Exception:
            ref = reference(item)
            log.exception("object refused", kind=ref.kind, object=f"{ref.namespace}/{ref.name}")
            message = "the operator can't take it: a defect, of which its log has the details"
            self._compiler.refuse(item, RefusedError(Refusal.DEFECT, ref, "", message))
            return None

    def _take_filter(self, name: str, item: Json | None) -> None:
        if item is None:
            self._generations.pop(name, None)
        else:
            self._generations[name] = item["metadata"].get("generation", 0)

    async def _flush(self) -> None:
        self._changed.clear()
        changes, slices = self._compiler.changes(), Slices()
        for name, ruleset in changes.rulesets.items():
            if ruleset is None:
                self._rulesets.pop(name, None)
                self._publisher.drop(RULE_SETS, name)
            else:
                self._rulesets[name] = ruleset
                self._publisher.want(RULE_SETS, name, ruleset, ruleset.source.namespace)
            await slices.breathe()
        for name, address_set in changes.address_sets.items():
            self._want_addresses(name, address_set)
            await slices.breathe()
        if changes.rulesets:
            self._touched()

    def _want_addresses(self, name: str, new: AddressSet | None) -> None:
        old = self._address_sets.pop(name, None)
        if new is None:
            self._publisher.drop(ADDRESS_SETS, name, REMOVAL_SECONDS)
            return
        self._address_sets[name] = new
        only_less = old is not None and set(new.numbers) <= set(old.numbers)
        delay = REMOVAL_SECONDS if only_less else 0.0
        self._publisher.want(ADDRESS_SETS, name, new, new.group.namespace, delay)


def _readable(published: Iterable[Json]) -> Iterator[tuple[str, AddressSet]]:
    """The AddressSets that can be read; what can't be is not wanted, so the publisher writes it anew."""
    for item in published:
        name = item["metadata"]["name"]
        try:
            yield name, address_set_from_dict(name, item.get("spec"))
        except RefusedError as refusal:
            log.warning("unreadable AddressSet", name=name, message=str(refusal))
