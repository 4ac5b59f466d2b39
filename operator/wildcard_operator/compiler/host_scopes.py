# SPDX-License-Identifier: Apache-2.0
"""Filters on the node's own interfaces: which apply to which, and the scopes that follow.

Interfaces and filters on nodes are few, so every change works all of them out again.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from wildcard_operator.compiler.scopes import HOST_STEPS, Choice, Scope, Source, Step
from wildcard_operator.model.entries import Condition, InterfaceScopes, Reason
from wildcard_operator.model.net import Direction
from wildcard_operator.model.rulesets import Interfaces, Nodes

if TYPE_CHECKING:
    from wildcard_operator.compiler.events import Interface
    from wildcard_operator.compiler.scope_table import ScopeTable
    from wildcard_operator.model.objects import Node
    from wildcard_operator.model.rulesets import RuleSet


class HostScopes:
    """The scopes of the node's interfaces."""

    def __init__(self, scopes: ScopeTable, failsafe: RuleSet) -> None:
        self._scopes = scopes
        self._failsafe = Source("", failsafe)
        self._failsafe.take(failsafe)
        self._labels: dict[str, str] = {}
        self._interfaces: frozenset[Interface] | None = None
        self._sources: dict[Source, None] = {}
        self._held: dict[tuple[str, Step], Scope] = {}

    def set_node(self, node: Node) -> None:
        """Take the labels of the node."""
        labels = dict(node.labels)
        if labels != self._labels:
            self._labels = labels
            self._refresh()

    def set_interfaces(self, interfaces: frozenset[Interface]) -> None:
        """Take the interfaces of the node, all of them."""
        if interfaces != self._interfaces:
            self._interfaces = interfaces
            self._refresh()

    def set_source(self, source: Source, new: RuleSet | None) -> None:
        """Take a source as it is now; None, or one whose subject is pods: there is none for nodes."""
        if new is not None and isinstance(new.subject, Nodes):
            source.take(new)
            self._sources[source] = None
            self._scopes.changed(source)
            self._refresh()
        elif source in self._sources:
            del self._sources[source]
            self._refresh()

    def interfaces(self) -> tuple[InterfaceScopes, ...]:
        """The interfaces that a filter applies to."""
        result = []
        for name in sorted({name for name, _ in self._held}):
            numbers = {step.direction: scope.number for (n, step), scope in self._held.items() if n == name}
            result.append(
                InterfaceScopes(name, numbers.get(Direction.INGRESS, 0), numbers.get(Direction.EGRESS, 0))
            )
        return tuple(result)

    def conditions(self) -> list[Condition]:
        """Filters that select this node and none of its interfaces; [] until these are known."""
        if self._interfaces is None:
            return []
        return [
            Condition(
                source.ruleset.source.kind,
                "",
                source.ruleset.source.name,
                "",
                Reason.NO_INTERFACE,
                "it selects this node, but none of the interfaces that it means is here",
            )
            for source in self._sources
            if not source.in_force and source.ruleset.rules and self._selects_node(source)
        ]

    def _selects_node(self, source: Source) -> bool:
        nodes = source.ruleset.subject
        return isinstance(nodes, Nodes) and nodes.selector.matches(self._labels)

    def _refresh(self) -> None:
        before, self._held = self._held, {}
        for interface in self._interfaces or ():
            for step in HOST_STEPS:
                sources = {source for source in self._sources if self._applies(source, interface, step)}
                if sources:
                    self._held[interface.name, step] = self._scope(step, sources | {self._failsafe})
        for (name, step), scope in self._held.items():
            scope.holders.add((name, step))
        for key, scope in before.items():
            if self._held.get(key) is not scope:
                self._scopes.release(scope, key)

    def _scope(self, step: Step, sources: set[Source]) -> Scope:
        chosen = Choice(None, added=sources)
        found = self._scopes.find(step, "", chosen, frozenset())
        return found or self._scopes.create(step, "", chosen, frozenset())

    def _applies(self, source: Source, interface: Interface, step: Step) -> bool:
        nodes = source.ruleset.subject
        return (
            isinstance(nodes, Nodes)
            and step in source.steps
            and nodes.selector.matches(self._labels)
            and _picks(nodes.interfaces, interface)
        )


def _picks(selection: Interfaces, interface: Interface) -> bool:
    return (
        interface.name in selection.names
        or any(fnmatch.fnmatchcase(interface.name, pattern) for pattern in selection.patterns)
        or (selection.primary and interface.primary)
    )
