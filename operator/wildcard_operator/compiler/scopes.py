# SPDX-License-Identifier: Apache-2.0
"""What scopes are made of: sources (policies or filters) at a step, in bundles that scopes share.

A scope is a number for "this set of sources, at this step". Sources that are in the very same scopes form a
bundle, and a scope is a set of bundles: however many policies select all pods of a namespace, a scope that
one more policy splits off shares them as one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from wildcard_operator.model.entries import ScopeSpace
from wildcard_operator.model.net import Direction
from wildcard_operator.model.rulesets import Nodes, RuleSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wildcard_operator.model.addresssets import NamedPort
    from wildcard_operator.model.entries import Entry
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
        bundles: Where it is, by step.
        steps: Where its rules are looked up. What isolates is a policy, whatever its kind.
        port_names: Named ports that its ingress rules ask of the selected pods themselves.
    """

    name: str
    ruleset: RuleSet
    bundles: dict[Step, Bundle] = field(default_factory=dict)
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

    def scopes_at(self, step: Step) -> list[Scope]:
        """The scopes of a step that it is in."""
        bundle = self.bundles.get(step)
        return [] if bundle is None else list(bundle.scopes)

    @property
    def in_force(self) -> bool:
        """Whether it is in any scope."""
        return any(bundle.scopes for bundle in self.bundles.values())


def _steps(ruleset: RuleSet) -> set[Step]:
    if isinstance(ruleset.subject, Nodes):
        layer, directions = HOST, {rule.direction for rule in ruleset.rules}
    elif ruleset.isolates:
        layer, directions = POLICY, set(ruleset.isolates)
    else:
        layer, directions = FILTER, {rule.direction for rule in ruleset.rules}
    return {step for step in POD_STEPS + HOST_STEPS if step.layer == layer and step.direction in directions}


@dataclass(eq=False, slots=True)
class Bundle:
    """Sources that are in the same scopes of one step.

    Attributes:
        told: The scopes that they were in when the last delta was made.
        rows: What their entries are, kept by `ScopeEntries`; None where that is not known.
    """

    step: Step
    sources: set[Source]
    scopes: set[Scope] = field(default_factory=set)
    told: frozenset[Scope] = frozenset()
    rows: tuple[Entry, ...] | None = None


@dataclass(eq=False, slots=True)
class Scope:
    """What some pods (or interfaces) of the node have in common at one step.

    Attributes:
        namespace: Of the pods, for policies; "" for filters, which pods of several namespaces share.
        fingerprint: Of the sources: equal sets have equal ones.
        port_names: Named ports that sources ask of the pods themselves, with the number of sources.
        ports: What these pods have under those names: pods that differ in it don't share a scope.
        size: How many sources there are.
        holders: The profiles that have it, or the names of interfaces.
    """

    number: int
    step: Step
    namespace: str
    fingerprint: int
    port_names: Counter[PortName]
    ports: frozenset[NamedPort]
    bundles: set[Bundle] = field(default_factory=set)
    size: int = 0
    holders: set[Any] = field(default_factory=set)

    @property
    def signature(self) -> tuple[object, ...]:
        """Scopes with different ones differ; with the same one they mostly don't."""
        return self.step, self.namespace, self.fingerprint, self.ports

    def sources(self) -> Iterator[Source]:
        """What it is made of."""
        return chain.from_iterable(bundle.sources for bundle in self.bundles)


class Choice:
    """A set of sources, mostly that of a scope with one more or one less: told apart without being listed.

    The scope must not change meanwhile. `added` are not among its sources, `removed` are.
    """

    def __init__(
        self, base: Scope | None, added: Iterable[Source] = (), removed: Iterable[Source] = ()
    ) -> None:
        self.base = base
        self.added = set(added)
        self.removed = set(removed)
        self.fingerprint = 0 if base is None else base.fingerprint
        for source in self.added | self.removed:
            self.fingerprint ^= hash(source.name)

    def __len__(self) -> int:
        return (0 if self.base is None else self.base.size) + len(self.added) - len(self.removed)

    def port_names(self, step: Step) -> Counter[PortName]:
        """Named ports that these sources ask of the pods themselves, with the number of sources."""
        names = Counter() if self.base is None else Counter(self.base.port_names)
        names.update(name for source in self.added for name in source.names_at(step))
        return names - Counter(name for source in self.removed for name in source.names_at(step))

    def equals(self, scope: Scope) -> bool:
        """Whether these are the sources of a scope: what both have in common as bundles is not looked at."""
        if scope is self.base:
            return not self.added and not self.removed
        if len(self) != scope.size:
            return False
        ours = set() if self.base is None else self.base.bundles
        mine = _sources(ours - scope.bundles)
        return (mine | self.added) - self.removed == _sources(scope.bundles - ours)


def _sources(bundles: Iterable[Bundle]) -> set[Source]:
    return set(chain.from_iterable(bundle.sources for bundle in bundles))


class ScopeView(NamedTuple):
    """A scope for people: its step, the policies or filters in it by name, and the named ports of its
    pods."""

    layer: str
    direction: Direction
    namespace: str
    sources: tuple[ObjectRef, ...]
    ports: tuple[NamedPort, ...]


def ports_under(names: Counter[PortName], ports: Iterable[NamedPort]) -> frozenset[NamedPort]:
    """Those of a pod's named ports that are asked for."""
    if not names:
        return NO_PORTS
    return frozenset(port for port in ports if names[port.name, port.protocol] > 0)
