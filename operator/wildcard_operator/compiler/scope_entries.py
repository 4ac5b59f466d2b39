# SPDX-License-Identifier: Apache-2.0
"""The entries of every scope: what each source in it comes to, and its default deny.

A source comes to the same in every scope, so that is worked out once, and again only where it changed, a peer
has other class prefixes, or ranks were spread anew. Only what asks for named ports of the scope's own pods
is worked out for each scope.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING

from wildcard_operator.compiler.expand import ANY_PORTS, Place, expand
from wildcard_operator.compiler.scopes import HOST, HOST_STEPS, POD_STEPS, POLICY, Scope, Source, Step
from wildcard_operator.model.entries import (
    ANY_CLASS,
    NO_SCOPE,
    PRIORITY_DEFAULT_DENY,
    Entries,
    Entry,
    RuleKind,
    RuleName,
    ScopeRows,
)
from wildcard_operator.model.net import FAMILIES, Action
from wildcard_operator.model.rulesets import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wildcard_operator.compiler.peers import PeerTable
    from wildcard_operator.compiler.registration import Registration
    from wildcard_operator.compiler.rule_ids import RuleIds
    from wildcard_operator.compiler.scope_table import ScopeTable
    from wildcard_operator.compiler.scopes import Bundle
    from wildcard_operator.model.addresssets import NamedPort
    from wildcard_operator.model.rulesets import Pods

DEFAULT_DENY_RULE = "default-deny"

Rows = tuple[Entry, ...]
"""Entries of no scope."""


class _Changes:
    """Entries that come and go, by scope; those that do both are left out in the end."""

    def __init__(self) -> None:
        self._added: dict[int, list[Rows]] = defaultdict(list)
        self._removed: dict[int, list[Rows]] = defaultdict(list)

    def add(self, scope: Scope, rows: Rows) -> None:
        if rows:
            self._added[scope.number].append(rows)

    def remove(self, scope: Scope, rows: Rows) -> None:
        if rows:
            self._removed[scope.number].append(rows)

    def replace(self, scope: Scope, old: Rows, new: Rows) -> None:
        self.remove(scope, old)
        self.add(scope, new)

    def entries(self) -> tuple[Entries, Entries]:
        """Added and removed."""
        for scope in self._added.keys() & self._removed.keys():
            come = set(chain.from_iterable(self._added[scope]))
            gone = set(chain.from_iterable(self._removed[scope]))
            self._added[scope], self._removed[scope] = [tuple(come - gone)], [tuple(gone - come)]
        return _entries(self._added), _entries(self._removed)


def _entries(by_scope: dict[int, list[Rows]]) -> Entries:
    return Entries(
        tuple(ScopeRows(scope, rows) for scope, parts in by_scope.items() for rows in parts if rows)
    )


class ScopeEntries:
    """Entries by source, and by scope where they differ, as of the last delta."""

    def __init__(
        self, scopes: ScopeTable, peers: PeerTable, registration: Registration, ids: RuleIds
    ) -> None:
        self._scopes = scopes
        self._peers = peers
        self._registration = registration
        self._ids = ids
        self._alike: dict[Step, dict[Source, Rows]] = {step: {} for step in POD_STEPS + HOST_STEPS}
        self._named: dict[Scope, dict[Source, Rows]] = {}
        self._compiled: dict[tuple[Source, frozenset[NamedPort]], Rows] = {}
        self._denies: dict[Scope, tuple[int, Rows]] = {}
        self._families: frozenset[int] = frozenset()

    def set_families(self, families: frozenset[int]) -> None:
        """Families in which the node's pods have addresses: entries of pod scopes are made for these
        alone."""
        if families == self._families:
            return
        self._families = families
        for scope in self._scopes.living:
            if scope.step.layer != HOST:
                self._scopes.dirty.update(scope.sources())
                self._scopes.born.add(scope)

    def refresh(self, changed: Iterable[Pods]) -> tuple[Entries, Entries]:
        """Entries added and removed since the last call; `changed` are peers with other class prefixes."""
        for peer in changed:
            self._scopes.dirty.update(self._registration.users(peer))
        changes = _Changes()
        self._refresh_denies(changes)
        for bundle in self._scopes.moved:
            for scope in bundle.told - bundle.scopes:
                changes.remove(scope, self._rows_in(bundle, scope))
                self._forget_named(bundle, scope)
        for source in self._scopes.dirty:
            self._refresh_source(source, changes)
        for bundle in self._scopes.moved:
            for scope in bundle.scopes - bundle.told:
                changes.add(scope, self._rows_in(bundle, scope))
            if not bundle.scopes:
                for source in bundle.sources:
                    self._alike[bundle.step].pop(source, None)
        self._scopes.dirty.clear()
        self._scopes.settle()
        self._compiled.clear()
        return changes.entries()

    def all(self) -> frozenset[Entry]:
        """All entries, as of the last `refresh`."""
        denies = (ScopeRows(scope.number, rows) for scope, (_, rows) in self._denies.items())
        allows = (
            ScopeRows(scope.number, self._rows_in(bundle, scope))
            for bundle in self._scopes.bundles
            for scope in bundle.told
        )
        return frozenset(Entries((*denies, *allows)))

    def _refresh_source(self, source: Source, changes: _Changes) -> None:
        """Work a source out again; the scopes that it comes to or leaves are seen to elsewhere."""
        for step, bundle in source.bundles.items():
            bundle.rows = None
            staying = bundle.told & bundle.scopes
            before = {scope: self._rows_of(source, scope) for scope in staying}
            self._alike[step].pop(source, None)
            for scope in bundle.told:
                self._named.get(scope, {}).pop(source, None)
            for scope in staying:
                changes.replace(scope, before[scope], self._rows_of(source, scope))

    def _rows_in(self, bundle: Bundle, scope: Scope) -> Rows:
        if bundle.rows is not None:
            return bundle.rows
        alike = self._alike[scope.step]
        for source in bundle.sources.difference(alike):
            self._rows_of(source, scope)
        if bundle.sources.difference(alike):
            return tuple(row for source in bundle.sources for row in self._rows_of(source, scope))
        bundle.rows = tuple(chain.from_iterable(map(alike.__getitem__, bundle.sources)))
        return bundle.rows

    def _rows_of(self, source: Source, scope: Scope) -> Rows:
        rows = self._alike[scope.step].get(source)
        if rows is None:
            rows = self._named.get(scope, {}).get(source)
        if rows is None:
            rows = self._compile(source, scope)
            if source.names_at(scope.step):
                self._named.setdefault(scope, {})[source] = rows
            else:
                self._alike[scope.step][source] = rows
        return rows

    def _forget_named(self, bundle: Bundle, scope: Scope) -> None:
        named = self._named.get(scope, {})
        for source in bundle.sources.intersection(named):
            del named[source]
        if not named:
            self._named.pop(scope, None)

    def _compile(self, source: Source, scope: Scope) -> Rows:
        """A source in a scope; once where scopes have the same named ports."""
        names = source.names_at(scope.step)
        if not names:
            return self._expand(source, scope)
        rows = self._compiled.get((source, scope.ports))
        if rows is None:
            rows = self._compiled[source, scope.ports] = self._expand(source, scope)
        return rows

    def _expand(self, source: Source, scope: Scope) -> Rows:
        ruleset = source.ruleset
        families = FAMILIES if scope.step.layer == HOST else sorted(self._families)
        rows: dict[Entry, None] = {}
        for rule, order, rule_id in self._registration.placed(source, scope.step.direction):
            place = Place(
                priority=ruleset.priority,
                order=order,
                rule_id=rule_id,
                audit=ruleset.mode is Mode.AUDIT,
                families=families,
                ports=tuple(sorted(scope.ports)),
            )
            rows.update(dict.fromkeys(expand(rule, place, self._peers)))
        return tuple(rows)

    def _refresh_denies(self, changes: _Changes) -> None:
        """Every policy scope ends with what drops all that no rule allowed."""
        for scope in self._scopes.take_dead():
            if scope in self._denies:
                rule_id, rows = self._denies.pop(scope)
                changes.remove(scope, rows)
                self._ids.give_back(rule_id)
        for scope in self._scopes.born:
            if scope.step.layer == POLICY:
                rule_id, before = self._denies.get(scope) or (self._deny_id(scope), ())
                rows = tuple(_default_deny(family, rule_id) for family in sorted(self._families))
                self._denies[scope] = rule_id, rows
                changes.replace(scope, before, rows)
        self._scopes.born.clear()

    def _deny_id(self, scope: Scope) -> int:
        name = RuleName(
            RuleKind.DEFAULT_DENY, scope.namespace, "", DEFAULT_DENY_RULE, scope.step.direction, Action.DROP
        )
        return self._ids.take(name)


def _default_deny(family: int, rule_id: int) -> Entry:
    return Entry(
        family, NO_SCOPE, *ANY_CLASS, 0, 0, 0, 0, *ANY_PORTS, *ANY_PORTS, None, 0, 0,
        PRIORITY_DEFAULT_DENY, 0, Action.DROP, rule_id, audit=False,
    )  # fmt: skip
