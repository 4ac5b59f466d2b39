# SPDX-License-Identifier: Apache-2.0
"""What one node gets: RuleSets, AddressSets, namespaces and the node's own pods become its tables.

    compiler = NodeCompiler("worker-1", NodeConfig())
    compiler.apply(event)          # any number of times
    delta = compiler.delta()       # what changed since the last delta, one batch

Pure and incremental: the tables follow from what has been told, not from its order; numbers of classes,
scopes, pods and rules alone depend on it, and keep while what they name lives. Between two deltas the state
is not looked at, so events that cancel out come to nothing.
"""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from wildcard_operator.compiler.config import NodeConfig, UnknownPodsMode, failsafe_rules
from wildcard_operator.compiler.events import (
    AddressSetRemoved,
    AddressSetSet,
    Event,
    InterfacesSet,
    NamespaceRemoved,
    NamespaceSet,
    NodeRemoved,
    NodeSet,
    PodRemoved,
    PodSet,
    Routes,
    RuleSetRemoved,
    RuleSetSet,
    Synced,
)
from wildcard_operator.compiler.host_scopes import HostScopes
from wildcard_operator.compiler.local_pods import LocalPods
from wildcard_operator.compiler.peers import PeerTable
from wildcard_operator.compiler.registration import Registration
from wildcard_operator.compiler.rule_ids import RuleIds
from wildcard_operator.compiler.scope_entries import ScopeEntries
from wildcard_operator.compiler.scope_table import ScopeTable
from wildcard_operator.compiler.scopes import (
    FILTER_EGRESS,
    FILTER_INGRESS,
    POLICY_EGRESS,
    POLICY_INGRESS,
    ScopeView,
    Source,
)
from wildcard_operator.compiler.selection import Selection
from wildcard_operator.model.entries import (
    AddressRow,
    Condition,
    NodeDelta,
    NodeTables,
    Reason,
    RuleName,
    UnknownPods,
)
from wildcard_operator.model.errors import ObjectRef
from wildcard_operator.model.net import Direction, address_of
from wildcard_operator.model.objects import NAMESPACE, Node
from wildcard_operator.model.rulesets import Namespaces, Nodes, Pods, RuleSet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wildcard_operator.model.net import Address, Prefix
    from wildcard_operator.model.objects import Namespace

NO_RULE_IDS: Final[Mapping[int, RuleName]] = MappingProxyType({})


class NodeCompiler:
    """The compiler of one node's tables.

    `rule_ids` are the names of before a restart: counters that go on under their old ids.
    """

    def __init__(
        self, node: str, config: NodeConfig | None = None, rule_ids: Mapping[int, RuleName] = NO_RULE_IDS
    ) -> None:
        self._config = config or NodeConfig()
        self._peers = PeerTable()
        self._scopes = ScopeTable()
        self._ids = RuleIds(rule_ids)
        self._selection = Selection(self._scopes)
        self._pods = LocalPods(node, self._selection)
        self._hosts = HostScopes(self._scopes, failsafe_rules(self._config))
        self._registration = Registration(self._scopes, self._peers, self._ids)
        self._entries = ScopeEntries(self._scopes, self._peers, self._registration, self._ids)
        self._sources: dict[str, Source] = {}
        self._problems: dict[str, list[Condition]] = {}
        self._synced: frozenset[str] | None = None
        self._unsynced: dict[str, Source] = {}
        self._node_ranges: tuple[Prefix, ...] = ()
        self._rows: dict[int, AddressRow] = {}  # of the node's own pods, by the number of the address
        self._told = NodeTables()

    def apply(self, event: Event) -> None:
        """Take one event in."""
        match event:
            case PodSet() | PodRemoved() | Routes():
                self._apply_pod(event)
            case NamespaceSet() | NamespaceRemoved() | NodeSet() | NodeRemoved() | InterfacesSet():
                self._apply_surroundings(event)
            case RuleSetSet() | RuleSetRemoved() | AddressSetSet() | AddressSetRemoved():
                self._apply_set(event)
            case Synced(namespaces):
                self._synced = namespaces
                for name in {*self._unsynced, *self._selection.namespaces()}:
                    self._check_sync(name)

    def _apply_pod(self, event: PodSet | PodRemoved | Routes) -> None:
        match event:
            case PodSet(pod):
                self._pods.set_pod(pod)
                self._check_sync(pod.namespace)
            case PodRemoved(namespace, name):
                self._pods.remove_pod(namespace, name)
                self._check_sync(namespace)
            case Routes(addresses):
                self._pods.set_routes(addresses)
                for namespace in list(self._unsynced):
                    self._check_sync(namespace)

    def _apply_surroundings(
        self, event: NamespaceSet | NamespaceRemoved | NodeSet | NodeRemoved | InterfacesSet
    ) -> None:
        match event:
            case NamespaceSet(namespace):
                self._set_namespace(namespace.name, namespace)
            case NamespaceRemoved(name):
                self._set_namespace(name, None)
            case NodeSet(node):
                self._set_node(node)
            case NodeRemoved(name):
                self._set_node(Node(name))
            case InterfacesSet(interfaces):
                self._hosts.set_interfaces(interfaces)

    def _apply_set(self, event: RuleSetSet | RuleSetRemoved | AddressSetSet | AddressSetRemoved) -> None:
        match event:
            case RuleSetSet(name, ruleset):
                self._set_ruleset(name, ruleset)
            case RuleSetRemoved(name):
                self._set_ruleset(name, None)
            case AddressSetSet(name, address_set):
                self._peers.set_slice(name, address_set)
            case AddressSetRemoved(name):
                self._peers.set_slice(name, None)

    def forget_old_rules(self) -> None:
        """Free the counters of before the restart that nothing has taken up; call it once all is in sync."""
        self._ids.forget_unclaimed()

    def delta(self) -> NodeDelta:
        """What changed since the last call."""
        self._entries.set_families(self._pods.families())
        self._registration.refresh()
        changed, former = self._peers.refresh()
        added, removed = self._entries.refresh(changed)
        rows_set, rows_removed = self._changed_rows(former)
        rules_added, rules_removed = self._ids.take_changes()
        pods_set, pods_removed = self._pods.take_changes()
        interfaces, unknown, conditions = self._hosts.interfaces(), self._unknown_pods(), self._conditions()
        told, self._told = (
            self._told,
            NodeTables(interfaces=interfaces, unknown_pods=unknown, conditions=conditions),
        )
        return NodeDelta(
            rows_set=rows_set,
            rows_removed=tuple(rows_removed),
            entries_added=added,
            entries_removed=removed,
            rules_added=rules_added,
            rules_removed=rules_removed,
            pods_set=pods_set,
            pods_removed=pods_removed,
            interfaces=None if interfaces == told.interfaces else interfaces,
            unknown_pods=None if unknown == told.unknown_pods else unknown,
            conditions=None if conditions == told.conditions else conditions,
        )

    def tables(self) -> NodeTables:
        """The whole; to be called after `delta`, before the next event."""
        return NodeTables(
            rows=self._all_rows(),
            entries=self._entries.all(),
            rules=self._ids.names(),
            pods=self._pods.descriptions(),
            interfaces=self._told.interfaces,
            unknown_pods=self._told.unknown_pods,
            conditions=self._told.conditions,
        )

    def scopes(self) -> dict[int, ScopeView]:
        """What each scope is made of, for people who ask why; no two say the same."""
        return {
            scope.number: ScopeView(
                scope.step.layer,
                scope.step.direction,
                scope.namespace,
                tuple(sorted(source.ruleset.source for source in scope.sources())),
                tuple(sorted(scope.ports)),
            )
            for scope in self._scopes.living
        }

    def class_keys(self) -> dict[int, frozenset[int]]:
        """The peers that each class is in, by arbitrary ids: two classes never have the same."""
        return self._peers.classes()

    def _set_namespace(self, name: str, namespace: Namespace | None) -> None:
        self._peers.set_namespace(name, namespace)
        self._selection.set_namespace(name, namespace)

    def _set_node(self, node: Node) -> None:
        self._node_ranges = node.pod_ranges
        self._hosts.set_node(node)

    def _set_ruleset(self, name: str, ruleset: RuleSet | None) -> None:
        source = self._sources.get(name)
        if source is not None and source.ruleset == ruleset:
            return
        if source is not None and (ruleset is None or _on_nodes(ruleset) != _on_nodes(source.ruleset)):
            del self._sources[name]
            self._table(source.ruleset).set_source(source, None)
            source = None
        if ruleset is not None:
            source = source or self._sources.setdefault(name, Source(name, ruleset))
            self._table(ruleset).set_source(source, ruleset)
        self._note_problems(name, ruleset)

    def _table(self, ruleset: RuleSet) -> HostScopes | Selection:
        return self._hosts if _on_nodes(ruleset) else self._selection

    def _note_problems(self, name: str, ruleset: RuleSet | None) -> None:
        self._problems.pop(name, None)
        if ruleset is not None and ruleset.problems:
            ref = ruleset.source
            self._problems[name] = [
                Condition(ref.kind, ref.namespace, ref.name, "", problem.reason, problem.message)
                for problem in ruleset.problems
            ]

    def _check_sync(self, namespace: str) -> None:
        """Pods of a namespace whose RuleSets may not all be here yet are isolated, beside what these
        allow."""
        wanted = (
            self._synced is not None
            and namespace not in self._synced
            and self._selection.has_namespace(namespace)
        )
        if wanted == (namespace in self._unsynced):
            return
        if wanted:
            isolating = RuleSet(
                ObjectRef(NAMESPACE, namespace, namespace),
                Pods(Namespaces(namespace)),
                priority=0,
                isolates=tuple(Direction),
            )
            source = self._unsynced[namespace] = Source(f"{NAMESPACE}/{namespace}", isolating)
            self._selection.set_source(source, isolating)
        else:
            self._selection.set_source(self._unsynced.pop(namespace), None)

    def _all_rows(self) -> dict[Address, AddressRow]:
        rows = {number: row for number, klass in self._peers.addresses() if (row := _row_of_class(klass))}
        return {address_of(number): row for number, row in (rows | self._rows).items()}

    def _changed_rows(self, former: dict[int, int]) -> tuple[dict[Address, AddressRow], list[Address]]:
        """Rows set and removed; `former` has the classes of addresses that may have changed theirs."""
        moved, self._selection.moved = self._selection.moved, set()
        for profile in moved:
            self._pods.touch(profile)
        touched = {address.number for address in self._pods.dirty}
        self._pods.dirty = set()
        rows, gone = {}, []
        for number in former.keys() | touched:
            address, klass = address_of(number), self._peers.class_of(number)
            before = self._rows.pop(number, None) or _row_of_class(former.get(number, klass))
            row = self._row(address, klass)
            if row is not None and row.pod:
                self._rows[number] = row
            if row == before:
                continue
            if row is None:
                gone.append(address)
            else:
                rows[address] = row
        return rows, gone

    def _row(self, address: Address, klass: int) -> AddressRow | None:
        local = self._pods.owner(address)
        if local is None:
            return _row_of_class(klass)
        profile = local.profile
        return AddressRow(
            klass,
            local.number,
            policy_ingress=profile.scope(POLICY_INGRESS),
            policy_egress=profile.scope(POLICY_EGRESS),
            filter_ingress=profile.scope(FILTER_INGRESS),
            filter_egress=profile.scope(FILTER_EGRESS),
        )

    def _unknown_pods(self) -> UnknownPods:
        ranges = tuple(sorted({*self._node_ranges, *self._config.pod_ranges}))
        mode = self._config.unknown_pods
        if mode is UnknownPodsMode.AUTO:
            drop = any(local.profile.scopes for local in self._pods.awaiting_address())
        else:
            drop = mode is UnknownPodsMode.DROP
        return UnknownPods(ranges, drop)

    def _conditions(self) -> tuple[Condition, ...]:
        unsynced = [
            Condition(
                NAMESPACE, "", name, "", Reason.NOT_SYNCED, "its policies are not all here: pods are isolated"
            )
            for name in self._unsynced
        ]
        problems = (condition for found in self._problems.values() for condition in found)
        return tuple(sorted([*unsynced, *self._hosts.conditions(), *problems]))


@lru_cache(maxsize=4096)
def _row_of_class(peer_class: int) -> AddressRow | None:
    """The row of an address of no pod here, if it has one: one object for the many addresses of a class."""
    return AddressRow(peer_class, 0, 0, 0, 0, 0) if peer_class else None


def _on_nodes(ruleset: RuleSet) -> bool:
    return isinstance(ruleset.subject, Nodes)
