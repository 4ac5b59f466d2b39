# SPDX-License-Identifier: Apache-2.0
"""What sources in some scope have taken from the tables that they share with others: the peers that they ask
for, their rules' ids, and their ranks among those of one priority."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wildcard_operator.compiler.config import FAILSAFE
from wildcard_operator.compiler.peer_selectors import ALL_PODS
from wildcard_operator.compiler.ranks import Name, RankList
from wildcard_operator.model.entries import PLACE_BITS, PLACES, RuleKind, RuleName
from wildcard_operator.model.net import Direction
from wildcard_operator.model.rulesets import AnyPeer, Block, Pods, RuleSet

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from wildcard_operator.compiler.peers import PeerTable
    from wildcard_operator.compiler.rule_ids import RuleIds
    from wildcard_operator.compiler.scope_table import ScopeTable
    from wildcard_operator.compiler.scopes import Source
    from wildcard_operator.model.rulesets import Rule

_AskedName = tuple[Pods, str, int]
_RuleKey = tuple[Direction, str]
_ListKey = tuple[int, str]


@dataclass(slots=True)
class _InForce:
    """What one source has taken."""

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


class Registration:
    """The sources in force."""

    def __init__(self, scopes: ScopeTable, peers: PeerTable, ids: RuleIds) -> None:
        self._scopes = scopes
        self._peers = peers
        self._ids = ids
        self._in_force: dict[Source, _InForce] = {}
        self._users: dict[Pods, dict[Source, None]] = {}
        self._ranks: dict[_ListKey, RankList] = {}
        self._in_list: dict[_ListKey, dict[Source, None]] = {}

    def refresh(self) -> None:
        """Let sources that came into their first scope ask for peers, and those without any let go."""
        touched, self._scopes.touched = self._scopes.touched, set()
        unranked: dict[_ListKey, list[Source]] = {}
        for source in sorted(touched, key=lambda source: source.name):
            before = self._in_force.get(source)
            if before is not None and before.ruleset is source.ruleset and source.in_force:
                continue
            now = self._take(source) if source.in_force else None
            if before is not None:
                self._give_back(source, before, now)
            if now is not None and (before is None or before.place() != now.place()):
                unranked.setdefault(_list_key(now.ruleset), []).append(source)
        for key, sources in unranked.items():
            self._rank(key, sources)

    def users(self, peer: Pods) -> Collection[Source]:
        """Sources whose entries depend on the classes of a peer."""
        return self._users.get(peer, {}).keys()

    def placed(self, source: Source, direction: Direction) -> Iterator[tuple[Rule, int, int]]:
        """The rules of one direction, each with the order and the rule id of its entries."""
        in_force = self._in_force[source]
        ranks = self._ranks[_list_key(in_force.ruleset)]
        for rule in in_force.ruleset.rules:
            if rule.direction is direction:
                rank = ranks[in_force.ranks[rule.place >> PLACE_BITS]] if in_force.ranks else 0
                yield rule, rank << PLACE_BITS | rule.place % PLACES, in_force.ids[rule.direction, rule.id]

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
            self._scopes.dirty.update(neighbours)
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
