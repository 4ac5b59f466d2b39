# SPDX-License-Identifier: Apache-2.0
"""Scopes: a number for "this set of policies (or filters), at this step", and what these are made of."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wildcard_operator.model.entries import SCOPE_SPACE_SHIFT, ScopeSpace
from wildcard_operator.model.net import Direction
from wildcard_operator.model.rulesets import Nodes, RuleSet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wildcard_operator.model.addresssets import NamedPort
    from wildcard_operator.model.errors import ObjectRef

PortName = tuple[str, int]


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """Where a scope is looked up: pods' filters, pods' policies, or filters on host interfaces.

    There is one object for each, so that they are compared and hashed by identity.
    """

    layer: str
    direction: Direction

    @property
    def space(self) -> ScopeSpace:
        """The space of its scopes' numbers."""
        if self.layer != HOST:
            return ScopeSpace.POD
        return ScopeSpace.HOST_INGRESS if self.direction is Direction.INGRESS else ScopeSpace.HOST_EGRESS


NO_PORTS: Final[frozenset[NamedPort]] = frozenset()
POLICY: Final = "policy"
FILTER: Final = "filter"
HOST: Final = "host"
POLICY_INGRESS: Final = Step(POLICY, Direction.INGRESS)
POLICY_EGRESS: Final = Step(POLICY, Direction.EGRESS)
FILTER_INGRESS: Final = Step(FILTER, Direction.INGRESS)
FILTER_EGRESS: Final = Step(FILTER, Direction.EGRESS)
HOST_INGRESS: Final = Step(HOST, Direction.INGRESS)
HOST_EGRESS: Final = Step(HOST, Direction.EGRESS)
POD_STEPS: Final = (POLICY_INGRESS, POLICY_EGRESS, FILTER_INGRESS, FILTER_EGRESS)
HOST_STEPS: Final = (HOST_INGRESS, HOST_EGRESS)


@dataclass(eq=False, slots=True)
class Source:
    """A RuleSet on this node; the object stays the same while the RuleSet of this name changes.

    Attributes:
        scopes: Those that it is in.
        steps: Where its rules are looked up. What isolates is a policy, whatever its kind.
        port_names: Named ports that its ingress rules ask of the selected pods themselves.
    """

    name: str
    ruleset: RuleSet
    scopes: set[Scope] = field(default_factory=set)
    steps: frozenset[Step] = frozenset()
    port_names: frozenset[PortName] = frozenset()

    def take(self, ruleset: RuleSet) -> None:
        """Speak for this RuleSet from now on."""
        self.ruleset = ruleset
        self.steps = frozenset(_steps(ruleset))
        self.port_names = frozenset(
            (name, traffic.protocol)
            for rule in ruleset.rules
            if rule.direction is Direction.INGRESS
            for traffic in rule.traffic or ()
            if traffic.protocol is not None
            for name in traffic.names
        )

    def names_at(self, step: Step) -> frozenset[PortName]:
        """Named ports that it asks of the scope's own pods: those who receive have them."""
        return self.port_names if step is POLICY_INGRESS else frozenset()


def _steps(ruleset: RuleSet) -> set[Step]:
    if isinstance(ruleset.subject, Nodes):
        layer, directions = HOST, {rule.direction for rule in ruleset.rules}
    elif ruleset.isolates:
        layer, directions = POLICY, set(ruleset.isolates)
    else:
        layer, directions = FILTER, {rule.direction for rule in ruleset.rules}
    return {step for step in POD_STEPS + HOST_STEPS if step.layer == layer and step.direction in directions}


@dataclass(eq=False, slots=True)
class Scope:
    """What some pods (or interfaces) of the node have in common at one step.

    Attributes:
        namespace: Of the pods, for policies; "" for filters, which pods of several namespaces share.
        fingerprint: Of `sources`: equal sets have equal ones.
        port_names: Named ports that sources ask of the pods themselves, with the number of sources.
        ports: What these pods have under those names: pods that differ in it don't share a scope.
        holders: The profiles that have it, or the names of interfaces.
    """

    number: int
    step: Step
    namespace: str
    sources: set[Source]
    fingerprint: int
    port_names: Counter[PortName]
    ports: frozenset[NamedPort]
    holders: set[Any] = field(default_factory=set)

    @property
    def signature(self) -> tuple[object, ...]:
        """Scopes with different ones differ; with the same one they mostly don't."""
        return self.step, self.namespace, self.fingerprint, self.ports


class Choice:
    """A set of sources, mostly that of a scope with one more or one less: told apart without being copied."""

    def __init__(self, base: set[Source], source: Source | None = None, *, add: bool = False) -> None:
        self._base = base
        self._source = source
        self._add = add
        self.fingerprint = 0

    @classmethod
    def of(cls, sources: set[Source]) -> Choice:
        """Just these."""
        choice = cls(sources)
        for source in sources:
            choice.fingerprint ^= hash(source.name)
        return choice

    @classmethod
    def changed(cls, scope: Scope | None, source: Source | None, *, add: bool) -> Choice:
        """Those of a scope, with a source (or without it); the scope must not change meanwhile."""
        choice = cls(set() if scope is None else scope.sources, source, add=add)
        choice.fingerprint = 0 if scope is None else scope.fingerprint
        if source is not None:
            choice.fingerprint ^= hash(source.name)
        return choice

    def __len__(self) -> int:
        return len(self._base) + (0 if self._source is None else 1 if self._add else -1)

    def equals(self, sources: set[Source]) -> bool:
        """Whether these are the same."""
        if self._source is None:
            return sources is self._base or sources == self._base
        if len(sources) != len(self) or (self._source in sources) != self._add:
            return False
        return self._base <= sources if self._add else sources <= self._base

    def all(self) -> set[Source]:
        """The set itself, one's own."""
        sources = set(self._base)
        if self._source is not None:
            (sources.add if self._add else sources.discard)(self._source)
        return sources


class ScopeView(NamedTuple):
    """A scope for people: its step, the policies or filters in it by name, and the named ports of its
    pods."""

    layer: str
    direction: Direction
    namespace: str
    sources: tuple[ObjectRef, ...]
    ports: tuple[NamedPort, ...]


class ScopeTable:
    """The scopes of a node, and which of them have to be compiled again."""

    def __init__(self) -> None:
        self._by_signature: dict[tuple[object, ...], list[Scope]] = {}
        self._next = dict.fromkeys(ScopeSpace, 1)
        self._free: dict[ScopeSpace, list[int]] = {space: [] for space in ScopeSpace}
        self.living: set[Scope] = set()
        self.dead: set[Scope] = set()
        self.born: set[Scope] = set()
        self.touched: set[Source] = set()
        self.dirty: set[tuple[Scope, Source]] = set()

    def find(self, step: Step, namespace: str, chosen: Choice, ports: frozenset[NamedPort]) -> Scope | None:
        """The scope of exactly this, if there is one."""
        candidates = self._by_signature.get((step, namespace, chosen.fingerprint, ports), ())
        return next((scope for scope in candidates if chosen.equals(scope.sources)), None)

    def create(self, step: Step, namespace: str, chosen: Choice, ports: frozenset[NamedPort]) -> Scope:
        """A new scope; nothing holds it yet."""
        sources = chosen.all()
        names = Counter(name for source in sources for name in source.names_at(step))
        number = self._number(step.space)
        scope = Scope(number, step, namespace, sources, chosen.fingerprint, names, ports)
        self.living.add(scope)
        self.born.add(scope)
        self.touched |= sources
        self._file(scope)
        for source in sources:
            source.scopes.add(scope)
            self.dirty.add((scope, source))
        return scope

    def release(self, scope: Scope, holder: object) -> None:
        """One holder less; without any the scope is gone."""
        scope.holders.discard(holder)
        if scope.holders:
            return
        self._unfile(scope)
        self.living.discard(scope)
        self.born.discard(scope)
        self.dead.add(scope)
        self.touched |= scope.sources
        for source in scope.sources:
            source.scopes.discard(scope)
            self.dirty.discard((scope, source))

    def change(self, scope: Scope, source: Source, *, add: bool) -> None:
        """Put a source in a scope or take it out; all who hold the scope go along."""
        self._unfile(scope)
        names = source.names_at(scope.step)
        if add:
            scope.sources.add(source)
            source.scopes.add(scope)
            scope.port_names.update(names)
            self.dirty.add((scope, source))
        else:
            scope.sources.discard(source)
            source.scopes.discard(scope)
            scope.port_names = scope.port_names - Counter(names)
            self.dirty.add((scope, source))
        scope.fingerprint ^= hash(source.name)
        self.touched.add(source)
        self._file(scope)

    def set_ports(self, scope: Scope, ports: frozenset[NamedPort]) -> None:
        """The named ports of a scope's pods resolve otherwise, perhaps."""
        if ports == scope.ports:
            return
        changed = {(port.name, port.protocol) for port in scope.ports ^ ports}
        self._unfile(scope)
        scope.ports = ports
        self._file(scope)
        for source in scope.sources:
            if changed & source.names_at(scope.step):
                self.dirty.add((scope, source))

    def changed(self, source: Source) -> None:
        """The rules of a source are others."""
        self.touched.add(source)
        self.dirty.update((scope, source) for scope in source.scopes)

    def recount(self, scope: Scope) -> None:
        """Take the named ports of a scope from its sources again: one of them was changed."""
        scope.port_names = Counter(n for source in scope.sources for n in source.names_at(scope.step))

    def take_dead(self) -> set[Scope]:
        """Scopes gone since the last call; their numbers are free from now on."""
        dead, self.dead = self.dead, set()
        for scope in dead:
            heapq.heappush(self._free[scope.step.space], scope.number & ((1 << SCOPE_SPACE_SHIFT) - 1))
        return dead

    def _number(self, space: ScopeSpace) -> int:
        if self._free[space]:
            place = heapq.heappop(self._free[space])
        else:
            place = self._next[space]
            self._next[space] += 1
        return space << SCOPE_SPACE_SHIFT | place

    def _file(self, scope: Scope) -> None:
        self._by_signature.setdefault(scope.signature, []).append(scope)

    def _unfile(self, scope: Scope) -> None:
        filed = self._by_signature[scope.signature]
        filed.remove(scope)
        if not filed:
            del self._by_signature[scope.signature]


def ports_under(names: Counter[PortName], ports: Iterable[NamedPort]) -> frozenset[NamedPort]:
    """Those of a pod's named ports that are asked for."""
    if not names:
        return NO_PORTS
    return frozenset(port for port in ports if names[port.name, port.protocol] > 0)
