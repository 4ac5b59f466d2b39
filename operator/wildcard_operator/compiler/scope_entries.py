# SPDX-License-Identifier: Apache-2.0
"""The entries of every scope: what each source in it comes to, and its default deny.

Only what changed is worked out again, as (scope, source): a source that changed, a scope that took one in
or let one go, a peer whose class prefixes are others, ranks that had to be spread anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wildcard_operator.compiler.config import FAILSAFE
from wildcard_operator.compiler.expand import ANY_PORTS, Place, expand
from wildcard_operator.compiler.peer_selectors import ALL_PODS
from wildcard_operator.compiler.ranks import Name, RankList
from wildcard_operator.compiler.scopes import HOST, POLICY, Scope, ScopeTable, Source
from wildcard_operator.model.entries import (
    ANY_CLASS,
    PLACE_BITS,
    PLACES,
    PRIORITY_DEFAULT_DENY,
    Entry,
    RuleKind,
    RuleName,
)
from wildcard_operator.model.net import FAMILIES, Action, Direction
from wildcard_operator.model.rulesets import AnyPeer, Block, Mode, Pods, RuleSet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wildcard_operator.compiler.peers import PeerTable
    from wildcard_operator.compiler.rule_ids import RuleIds
    from wildcard_operator.model.rulesets import Rule

DEFAULT_DENY_RULE = "default-deny"

_AskedName = tuple[Pods, str, int]
_RuleKey = tuple[Direction, str]
_ListKey = tuple[int, str]


@dataclass(slots=True)
class _InForce:
    """What a source in some scope has taken from the tables that it shares with others."""

    ruleset: RuleSet
    peers: frozenset[Pods]
    names: frozenset[_AskedName]
    ranks: tuple[Name, ...]
    ids: dict[_RuleKey, int] = field(default_factory=dict)

    def place(self) -> tuple[object, ...]:
        """What its order among others follows from."""
        return _list_key(self.ruleset), self.ranks

    def selectors(self) -> frozenset[Pods]:
        """Peers whose classes its entries depend on."""
        return self.peers | {selector for selector, _, _ in self.names}


class ScopeEntries:
    """Entries by scope and source."""

    def __init__(self, scopes: ScopeTable, peers: PeerTable, ids: RuleIds) -> None:
        self._scopes = scopes
        self._peers = peers
        self._ids = ids
        self._in_force: dict[Source, _InForce] = {}
        self._users: dict[Pods, dict[Source, None]] = {}
        self._ranks: dict[_ListKey, RankList] = {}
        self._in_list: dict[_ListKey, dict[Source, None]] = {}
        self._entries: dict[Scope, dict[Source | None, frozenset[Entry]]] = {}
        self._deny_ids: dict[Scope, int] = {}
        self._families: frozenset[int] = frozenset()

    def set_families(self, families: frozenset[int]) -> None:
        """Families in which the node's pods have addresses: entries of pod scopes are made for these
        alone."""
        if families == self._families:
            return
        self._families = families
        for scope in self._scopes.living:
            if scope.step.layer != HOST:
                self._scopes.dirty.update((scope, source) for source in scope.sources)
                if scope in self._deny_ids:
                    self._scopes.born.add(scope)

    def register(self) -> None:
        """Let sources that came into their first scope ask for peers, and those without any let go."""
        touched, self._scopes.touched = self._scopes.touched, set()
        unranked: dict[_ListKey, list[Source]] = {}
        for source in sorted(touched, key=lambda source: source.name):
            before = self._in_force.get(source)
            if before is not None and before.ruleset is source.ruleset and source.scopes:
                continue
            now = self._take(source) if source.scopes else None
            if before is not None:
                self._give_back(source, before, now)
            if now is not None and (before is None or before.place() != now.place()):
                unranked.setdefault(_list_key(now.ruleset), []).append(source)
        for key, sources in unranked.items():
            self._rank(key, sources)

    def refresh(self, changed: Iterable[Pods]) -> tuple[set[Entry], set[Entry]]:
        """Entries added and removed since the last call; `changed` are peers with other class prefixes."""
        for peer in changed:
            for source in self._users.get(peer, ()):
                self._scopes.dirty.update((scope, source) for scope in source.scopes)
        added: set[Entry] = set()
        removed: set[Entry] = set()
        for scope in self._scopes.take_dead():
            for entries in self._entries.pop(scope, {}).values():
                removed |= entries
            self._release_deny(scope)
        for scope in self._scopes.born:
            if scope in self._scopes.living and scope.step.layer == POLICY:
                self._replace(scope, None, self._default_deny(scope), added, removed)
        self._scopes.born.clear()
        while self._scopes.dirty:
            scope, source = self._scopes.dirty.pop()
            if scope in self._scopes.living:
                entries = self._compile(scope, source) if source in scope.sources else frozenset()
                self._replace(scope, source, entries, added, removed)
        both = added & removed
        return added - both, removed - both

    def all(self) -> frozenset[Entry]:
        """All entries, as of the last `refresh`."""
        return frozenset(
            entry for sources in self._entries.values() for part in sources.values() for entry in part
        )

    def _replace(
        self,
        scope: Scope,
        source: Source | None,
        entries: frozenset[Entry],
        added: set[Entry],
        removed: set[Entry],
    ) -> None:
        of_scope = self._entries.setdefault(scope, {})
        old = of_scope.pop(source, frozenset())
        if entries:
            of_scope[source] = entries
        added |= entries - old
        removed |= old - entries

    def _compile(self, scope: Scope, source: Source) -> frozenset[Entry]:
        """A source in a scope: as in another one but for the number, where it is compiled there already."""
        twin = next((other for other in source.scopes if self._is_twin(other, scope, source)), None)
        if twin is None:
            return self._expand(scope, source)
        entries = self._entries[twin].get(source, frozenset())
        return frozenset(Entry._make((entry[0], scope.number, *entry[2:])) for entry in entries)

    def _is_twin(self, other: Scope, scope: Scope, source: Source) -> bool:
        return (
            other is not scope
            and other.step is scope.step
            and other in self._entries
            and (other, source) not in self._scopes.dirty
            and (not source.names_at(scope.step) or other.ports == scope.ports)
        )

    def _expand(self, scope: Scope, source: Source) -> frozenset[Entry]:
        in_force = self._in_force[source]
        ruleset = in_force.ruleset
        ranks = self._ranks[_list_key(ruleset)]
        families = FAMILIES if scope.step.layer == HOST else sorted(self._families)
        entries: set[Entry] = set()
        for rule in ruleset.rules:
            if rule.direction is not scope.step.direction:
                continue
            rank = ranks[in_force.ranks[rule.place >> PLACE_BITS]] if in_force.ranks else 0
            place = Place(
                scope=scope.number,
                priority=ruleset.priority,
                order=rank << PLACE_BITS | rule.place % PLACES,
                rule_id=in_force.ids[rule.direction, rule.id],
                audit=ruleset.mode is Mode.AUDIT,
                families=families,
                ports=tuple(sorted(scope.ports)),
            )
            entries.update(expand(rule, place, self._peers))
        return frozenset(entries)

    def _default_deny(self, scope: Scope) -> frozenset[Entry]:
        """The end of every policy scope: all that no rule allowed."""
        rule_id = self._deny_ids.get(scope)
        if rule_id is None:
            name = RuleName(
                RuleKind.DEFAULT_DENY,
                scope.namespace,
                "",
                DEFAULT_DENY_RULE,
                scope.step.direction,
                Action.DROP,
            )
            rule_id = self._deny_ids[scope] = self._ids.take(name)
        return frozenset(
            Entry(
                family, scope.number, *ANY_CLASS, 0, 0, 0, 0, *ANY_PORTS, *ANY_PORTS, None, 0, 0,
                PRIORITY_DEFAULT_DENY, 0, Action.DROP, rule_id, audit=False,
            )
            for family in self._families
        )  # fmt: skip

    def _release_deny(self, scope: Scope) -> None:
        rule_id = self._deny_ids.pop(scope, None)
        if rule_id is not None:
            self._ids.give_back(rule_id)

    def _take(self, source: Source) -> _InForce:
        ruleset = source.ruleset
        now = _InForce(ruleset, _peers_of(ruleset), _names_of(ruleset), _rank_names(source.name, ruleset))
        now.ids = {
            (rule.direction, rule.id): self._ids.take(_rule_name(ruleset, rule)) for rule in ruleset.rules
        }
        for selector in now.peers:
            self._peers.use(selector)
        for name in now.names:
            self._peers.use_name(*name)
        for selector in now.selectors():
            self._users.setdefault(selector, {})[source] = None
        self._in_force[source] = now
        return now

    def _give_back(self, source: Source, before: _InForce, now: _InForce | None) -> None:
        for name in before.names:
            self._peers.unuse_name(*name)
        for selector in before.peers:
            self._peers.unuse(selector)
        for selector in before.selectors() - (frozenset() if now is None else now.selectors()):
            del self._users[selector][source]
            if not self._users[selector]:
                del self._users[selector]
        for number in before.ids.values():
            self._ids.give_back(number)
        if now is None or before.place() != now.place():
            self._unrank(source, before)
        if now is None:
            del self._in_force[source]

    def _rank(self, key: _ListKey, sources: list[Source]) -> None:
        """Give sources their place among those of one priority; others may have to be numbered anew."""
        neighbours = self._in_list.setdefault(key, {})
        names = [name for source in sources for name in self._in_force[source].ranks]
        if self._ranks.setdefault(key, RankList()).add(names):
            for other in neighbours:
                self._scopes.dirty.update((scope, other) for scope in other.scopes)
        neighbours.update(dict.fromkeys(sources))

    def _unrank(self, source: Source, before: _InForce) -> None:
        key = _list_key(before.ruleset)
        self._ranks[key].remove(before.ranks)
        del self._in_list[key][source]
        if not self._in_list[key]:
            del self._in_list[key], self._ranks[key]


def _list_key(ruleset: RuleSet) -> _ListKey:
    """Those that names sort among one another: of one priority, and of one namespace as scopes are."""
    return ruleset.priority, ruleset.source.namespace


def _rank_names(name: str, ruleset: RuleSet) -> tuple[Name, ...]:
    """One a thousand rules; none for failsafe ports, which stand above all that have a rank."""
    if ruleset.source.kind == FAILSAFE:
        return ()
    last = max((rule.place for rule in ruleset.rules), default=0)
    return tuple((ruleset.source.name, name, part) for part in range((last >> PLACE_BITS) + 1))


def _peers_of(ruleset: RuleSet) -> frozenset[Pods]:
    """Selectors that a RuleSet has as peers. Where only named ports of egress are asked for, these say it
    all."""
    return frozenset(
        peer
        for rule in ruleset.rules
        if rule.direction is Direction.INGRESS
        or rule.traffic is None
        or any(traffic.destination_ports or not traffic.names for traffic in rule.traffic)
        for peer in rule.peers
        if isinstance(peer, Pods)
    )


def _names_of(ruleset: RuleSet) -> frozenset[_AskedName]:
    """Named ports that egress rules ask of their peers."""
    return frozenset(
        (ALL_PODS if isinstance(peer, AnyPeer) else peer, name, traffic.protocol)
        for rule in ruleset.rules
        if rule.direction is Direction.EGRESS
        for traffic in rule.traffic or ()
        if traffic.protocol is not None
        for name in traffic.names
        for peer in rule.peers
        if not isinstance(peer, Block)
    )


def _rule_name(ruleset: RuleSet, rule: Rule) -> RuleName:
    source = ruleset.source
    return RuleName(
        RuleKind(source.kind), source.namespace, source.name, rule.id, rule.direction, rule.action
    )
