# SPDX-License-Identifier: Apache-2.0
"""Which policies and filters select a node's own pods, and the scopes that follow.

Pods of one namespace with the same labels and named ports form a profile and are looked at as one. A policy
that comes, goes or changes moves the profiles concerned from scope to scope; where all who hold a scope
move the same way, the scope changes in their stead and keeps its number.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wildcard_operator.compiler.matching import SelectorIndex
from wildcard_operator.compiler.scopes import (
    NO_PORTS,
    POD_STEPS,
    POLICY,
    POLICY_INGRESS,
    Choice,
    Scope,
    Source,
    Step,
    ports_under,
)
from wildcard_operator.model.objects import namespace_of
from wildcard_operator.model.rulesets import Nodes, Pods

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from wildcard_operator.compiler.scope_table import ScopeTable
    from wildcard_operator.compiler.scopes import PortName
    from wildcard_operator.model.addresssets import NamedPort
    from wildcard_operator.model.objects import Labels, Namespace, Pod
    from wildcard_operator.model.rulesets import Namespaces, RuleSet


@dataclass(eq=False, slots=True)
class Profile:
    """Pods of the node that no policy can tell apart. `scopes` lacks the steps at which nothing selects
    them."""

    namespace: str
    labels: Labels
    ports: tuple[NamedPort, ...]
    label_map: dict[str, str]
    scopes: dict[Step, Scope] = field(default_factory=dict)
    pods: int = 0

    def scope(self, step: Step) -> int:
        """The number of the scope at a step; 0 where nothing selects these pods."""
        scope = self.scopes.get(step)
        return 0 if scope is None else scope.number


class Selection:
    """Profiles of the node's pods, and the sources that select them."""

    def __init__(self, scopes: ScopeTable) -> None:
        self._scopes = scopes
        self._namespaces: dict[str, Namespace] = {}
        self._profiles: dict[tuple[str, Labels, tuple[NamedPort, ...]], Profile] = {}
        self._by_namespace: dict[str, dict[Profile, None]] = {}
        self._own: dict[str, SelectorIndex[Source]] = {}
        self._wide: SelectorIndex[Source] = SelectorIndex()
        self._wide_sources: dict[Source, None] = {}
        self.moved: set[Profile] = set()

    def join(self, pod: Pod) -> Profile:
        """The profile of a pod; each `join` is given back by one `leave`."""
        key = (pod.namespace, pod.labels, pod.ports)
        profile = self._profiles.get(key)
        if profile is None:
            profile = Profile(*key, dict(pod.labels))
            self._profiles[key] = profile
            self._by_namespace.setdefault(pod.namespace, {})[profile] = None
            self._enter(profile)
        profile.pods += 1
        return profile

    def leave(self, profile: Profile) -> None:
        """One pod less; without any the profile is gone."""
        profile.pods -= 1
        if profile.pods:
            return
        del self._profiles[profile.namespace, profile.labels, profile.ports]
        del self._by_namespace[profile.namespace][profile]
        if not self._by_namespace[profile.namespace]:
            del self._by_namespace[profile.namespace]
        for scope in profile.scopes.values():
            self._scopes.release(scope, profile)
        profile.scopes.clear()

    def set_source(self, source: Source, new: RuleSet | None) -> None:
        """Take a source as it is now; None: it is gone."""
        self._unfile(source)
        if new is None:
            self._reconcile(source, ())
            return
        names = source.port_names
        source.take(new)
        self._file(source)
        self._scopes.changed(source)
        if source.port_names != names:
            for scope in source.scopes_at(POLICY_INGRESS):
                self._scopes.recount(scope)
                self._change(scope.step, scope, list(scope.holders))
        self._reconcile(source, self._selected(source))

    def set_namespace(self, name: str, namespace: Namespace | None) -> None:
        """Take a namespace's labels as they are now; None: its object is gone."""
        before = self._labels(name)
        if namespace is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = namespace
        after = self._labels(name)
        if before == after or name not in self._by_namespace:
            return
        for source in self._wide_sources:
            subject = _subject(source)
            if subject is not None and _in(subject.namespaces, before) != _in(subject.namespaces, after):
                self._reconcile(source, self._selected(source))

    def namespaces(self) -> set[str]:
        """Namespaces of the node's pods."""
        return set(self._by_namespace)

    def has_namespace(self, name: str) -> bool:
        """Whether a pod of the node is of this namespace."""
        return name in self._by_namespace

    def _enter(self, profile: Profile) -> None:
        sources: dict[Step, set[Source]] = {}
        for source in self._selecting(profile):
            for step in source.steps:
                sources.setdefault(step, set()).add(source)
        for step, chosen in sources.items():
            choice = Choice(None, added=chosen)
            self._put([profile], step, choice, ports_under(choice.port_names(step), profile.ports))

    def _selecting(self, profile: Profile) -> Iterator[Source]:
        own = self._own.get(profile.namespace)
        if own is not None:
            yield from own.matching(profile.label_map)
        labels = self._labels(profile.namespace)
        for source in self._wide.matching(profile.label_map):
            subject = _subject(source)
            if subject is not None and _in(subject.namespaces, labels):
                yield source

    def _selected(self, source: Source) -> Iterator[Profile]:
        subject = _subject(source)
        if subject is None:
            return
        chosen: Iterable[Profile] = self._profiles.values()
        if subject.namespaces.name:
            chosen = self._by_namespace.get(subject.namespaces.name, ())
        for profile in chosen:
            in_namespace = subject.namespaces.name or _in(subject.namespaces, self._labels(profile.namespace))
            if in_namespace and subject.selector.matches(profile.label_map):
                yield profile

    def _reconcile(self, source: Source, selected: Iterable[Profile]) -> None:
        """Let a source in where it selects, and out where it does not."""
        wanted = set(selected)
        for step in POD_STEPS:
            there = source.scopes_at(step)
            if not there and step not in source.steps:
                continue
            has = {profile for scope in there for profile in scope.holders}
            in_step = wanted if step in source.steps else set()
            coming: dict[Scope | None, list[Profile]] = defaultdict(list)
            for profile in in_step - has:
                coming[profile.scopes.get(step)].append(profile)
            for scope, profiles in coming.items():
                self._change(step, scope, profiles, source, add=True)
            for scope in there:
                leaving = [profile for profile in scope.holders if profile not in in_step]
                if leaving:
                    self._change(step, scope, leaving, source, add=False)

    def _change(
        self,
        step: Step,
        scope: Scope | None,
        profiles: list[Profile],
        source: Source | None = None,
        *,
        add: bool = False,
    ) -> None:
        """Profiles that hold `scope` need one with (or without) a source; or with other ports, if none is
        given."""
        one = () if source is None else (source,)
        chosen = Choice(scope, added=one) if add else Choice(scope, removed=one)
        for ports, group in _by_ports(chosen.port_names(step), profiles).items():
            if scope is not None and self._stays(scope, group, chosen, ports):
                if source is not None:
                    self._scopes.change(scope, source, add=add)
                self._scopes.set_ports(scope, ports)
            else:
                self._put(group, step, chosen, ports)

    def _stays(self, scope: Scope, group: list[Profile], chosen: Choice, ports: frozenset[NamedPort]) -> bool:
        """Whether a scope can change in place: all of its holders go, and to where nobody is yet."""
        if not chosen or len(group) < len(scope.holders):
            return False
        return self._scopes.find(scope.step, scope.namespace, chosen, ports) in {None, scope}

    def _put(self, profiles: list[Profile], step: Step, chosen: Choice, ports: frozenset[NamedPort]) -> None:
        namespace = profiles[0].namespace if step.layer == POLICY else ""
        target = None
        if chosen:
            target = self._scopes.find(step, namespace, chosen, ports)
            target = target or self._scopes.create(step, namespace, chosen, ports)
        for profile in profiles:
            old = profile.scopes.pop(step, None)
            if target is not None:
                profile.scopes[step] = target
                target.holders.add(profile)
            if old is not None and old is not target:
                self._scopes.release(old, profile)
            self.moved.add(profile)

    def _labels(self, namespace: str) -> dict[str, str]:
        return dict(self._namespaces.get(namespace, namespace_of(namespace)).labels)

    def _file(self, source: Source) -> None:
        subject = _subject(source)
        if subject is None:
            return
        if subject.namespaces.name:
            index = self._own.setdefault(subject.namespaces.name, SelectorIndex())
            index.add(source, subject.selector)
        else:
            self._wide.add(source, subject.selector)
            self._wide_sources[source] = None

    def _unfile(self, source: Source) -> None:
        subject = _subject(source)
        if subject is None:
            return
        if subject.namespaces.name:
            index = self._own.setdefault(subject.namespaces.name, SelectorIndex())
            index.discard(source, subject.selector)
        else:
            self._wide.discard(source, subject.selector)
            self._wide_sources.pop(source, None)


def _by_ports(names: Counter[PortName], profiles: list[Profile]) -> dict[frozenset[NamedPort], list[Profile]]:
    """Profiles by what they have under the named ports that are asked for: mostly none is."""
    if not names:
        return {NO_PORTS: profiles}
    found: dict[frozenset[NamedPort], list[Profile]] = defaultdict(list)
    for profile in profiles:
        found[ports_under(names, profile.ports)].append(profile)
    return found


def _subject(source: Source) -> Pods | None:
    subject = source.ruleset.subject
    return None if isinstance(subject, Nodes) else subject


def _in(namespaces: Namespaces, labels: dict[str, str]) -> bool:
    return namespaces.selector.matches(labels)
