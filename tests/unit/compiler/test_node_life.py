# SPDX-License-Identifier: Apache-2.0
"""A node's tables while pods come and go, policies are not all here yet, or the agent has restarted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from wildcard_operator.compiler.config import NodeConfig, UnknownPodsMode
from wildcard_operator.compiler.events import (
    AddressSetSet,
    Interface,
    InterfacesSet,
    NodeSet,
    PodRemoved,
    PodSet,
    Routes,
    RuleSetRemoved,
    RuleSetSet,
    Synced,
)
from wildcard_operator.compiler.filters import wildcard_filter
from wildcard_operator.compiler.network_policies import network_policy
from wildcard_operator.compiler.node import NodeCompiler
from wildcard_operator.model.addresssets import AddressSet, Group
from wildcard_operator.model.entries import AddressRow, RuleKind, ScopeSpace
from wildcard_operator.model.net import Action, parse_address, parse_prefix
from wildcard_operator.model.objects import Node, Pod

if TYPE_CHECKING:
    from wildcard_operator.model.rulesets import RuleSet

NODE = "node-1"
WEB = parse_address("10.0.0.1")


def pod(name: str = "web", address: str = "10.0.0.1", **changes: Any) -> PodSet:
    fields = {
        "namespace": "shop", "name": name, "uid": name, "labels": (("app", "web"),), "node": NODE,
        "addresses": (parse_address(address),) if address else (),
    }  # fmt: skip
    return PodSet(Pod(**(fields | changes)))


def policy(name: str = "p", **spec: Any) -> RuleSetSet:
    raw = {"metadata": {"namespace": "shop", "name": name}, "spec": {"podSelector": {}} | spec}
    return RuleSetSet(name, network_policy(raw))


def host_filter(**spec: Any) -> RuleSet:
    target = {"nodes": {"interfaces": {"primary": True}}}
    rules = [{"name": "drop", "action": "Drop", "protocol": "TCP"}]
    raw = {
        "metadata": {"name": "edge"},
        "spec": {"direction": "Ingress", "target": target, "rules": rules} | spec,
    }
    ruleset = wildcard_filter(raw)
    assert ruleset is not None
    return ruleset


def told(*events: Any, config: NodeConfig | None = None) -> NodeCompiler:
    compiler = NodeCompiler(NODE, config)
    for event in events:
        compiler.apply(event)
    compiler.delta()
    return compiler


def row(compiler: NodeCompiler) -> AddressRow | None:
    return compiler.tables().rows.get(WEB)


def test_a_pod_that_no_policy_selects_has_a_row_without_scopes() -> None:
    found = row(told(pod()))

    assert found is not None
    assert found.pod
    assert (found.policy_ingress, found.policy_egress) == (0, 0)


def test_pods_of_the_host_network_of_other_nodes_and_ended_ones_are_not_the_nodes_own() -> None:
    for other in (pod(host_network=True), pod(node="node-2"), pod(terminal=True)):
        assert told(other, policy()).tables().rows == {}


def test_a_deleted_pod_keeps_its_scopes_until_its_route_is_gone() -> None:
    compiler = told(pod(), policy(), Routes(frozenset({WEB})))
    before = row(compiler)
    compiler.apply(PodRemoved("shop", "web"))

    assert not compiler.delta()
    assert row(compiler) == before
    compiler.apply(Routes(frozenset()))
    assert compiler.delta().rows_removed == (WEB,)


def test_an_address_belongs_to_the_newer_of_two_pods() -> None:
    old, new = pod(created="2026-01-01T00:00:00Z"), pod("heir", created="2026-01-02T00:00:00Z")
    for events in ((old, new), (new, old)):
        compiler = told(*events)
        found = row(compiler)

        assert found is not None
        assert compiler.tables().pods[found.pod].name == "heir"


def test_a_pod_recreated_under_its_name_is_another_pod() -> None:
    compiler = told(pod(uid="1"), policy(), Routes(frozenset({WEB})))
    compiler.apply(pod(uid="2", address="10.0.0.2"))
    compiler.delta()

    uids = {one.uid for one in compiler.tables().pods.values()}
    assert uids == {"1", "2"}


@pytest.mark.parametrize(
    ("mode", "events", "drop"),
    [
        (UnknownPodsMode.AUTO, [pod(address="")], False),
        (UnknownPodsMode.AUTO, [pod(address=""), policy()], True),
        (UnknownPodsMode.AUTO, [pod(), policy()], False),
        (UnknownPodsMode.DROP, [], True),
        (UnknownPodsMode.ALLOW, [pod(address=""), policy()], False),
    ],
)
def test_unknown_pods_are_dropped_as_the_mode_says(
    mode: UnknownPodsMode, events: list[Any], drop: bool
) -> None:
    ranges = (parse_prefix("10.0.0.0/24")[0],)
    node = NodeSet(Node(NODE, pod_ranges=ranges))
    unknown = told(node, *events, config=NodeConfig(unknown_pods=mode)).tables().unknown_pods

    assert (unknown.ranges, unknown.drop) == (ranges, drop)


def test_pods_of_a_namespace_that_is_not_in_sync_are_isolated() -> None:
    compiler = told(Synced(frozenset()), pod())
    found = row(compiler)
    assert found is not None
    assert found.policy_ingress
    assert found.policy_egress
    assert [condition.reason for condition in compiler.tables().conditions] == ["NotSynced"]

    compiler.apply(Synced(frozenset({"shop"})))
    compiler.delta()
    found = row(compiler)
    assert found is not None
    assert (found.policy_ingress, found.policy_egress) == (0, 0)
    assert compiler.tables().conditions == ()


def test_a_peer_that_comes_changes_one_row_and_no_entry() -> None:
    everybody = policy(ingress=[{"from": [{"namespaceSelector": {}}]}])
    compiler = told(pod(), everybody, peers("10.0.1.1"))
    compiler.apply(peers("10.0.1.1", "10.0.1.2"))
    delta = compiler.delta()

    assert [address.text for address in delta.rows_set] == ["10.0.1.2"]
    assert not delta.entries_added
    assert not delta.entries_removed


def peers(*addresses: str) -> AddressSetSet:
    group = Group("shop", (("app", "db"),))
    return AddressSetSet("set", AddressSet(group, tuple(parse_address(text) for text in addresses)))


def test_an_address_in_two_sets_is_granted_what_both_are() -> None:
    both = {"app": "db", "team": "blue"}
    by_team = policy("team", ingress=[{"from": [{"podSelector": {"matchLabels": {"team": "blue"}}}]}])
    by_app = policy("app", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}])
    compiler = told(pod(), by_team, by_app)
    before, after = both, both | {"app": "cache"}
    for name, labels in (("old", before), ("new", after)):
        group = Group("shop", tuple(sorted(labels.items())))
        compiler.apply(AddressSetSet(name, AddressSet(group, (parse_address("10.0.1.1"),))))
    compiler.delta()
    tables = compiler.tables()

    klass = tables.rows[parse_address("10.0.1.1")].peer_class
    granted = {
        tables.rules[entry.rule].name
        for entry in tables.entries
        if entry.class_length and (entry.peer_class ^ klass) >> (32 - entry.class_length) == 0
    }
    assert granted == {"team"}


def test_an_unchanged_object_told_again_changes_nothing() -> None:
    events = [pod(), policy(ingress=[{}]), peers("10.0.1.1"), NodeSet(Node(NODE))]
    compiler = told(*events)
    for event in events:
        compiler.apply(event)

    assert not compiler.delta()


def test_a_policy_that_is_added_leaves_the_entries_of_the_others_alone() -> None:
    compiler = told(pod(), policy("a", ingress=[{}]), policy("c", ingress=[{}]))
    before = compiler.tables().entries
    compiler.apply(policy("b", ingress=[{}]))
    delta = compiler.delta()

    assert not delta.entries_removed
    assert len(compiler.tables().entries) == len(before) + 1


def test_counters_keep_their_ids_over_a_restart_and_those_of_gone_rules_are_freed() -> None:
    before = told(pod(), policy("a", ingress=[{}]), policy("b", ingress=[{}])).tables().rules
    again = NodeCompiler(NODE, rule_ids=before)
    for event in (policy("b", ingress=[{}]), pod()):
        again.apply(event)
    again.delta()
    assert again.tables().rules == before

    again.forget_old_rules()
    gone = again.delta().rules_removed
    assert [before[number].name for number in gone] == ["a"]


def test_a_rule_of_a_filter_is_one_counter_however_many_entries_it_becomes() -> None:
    blocks = [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}, {"cidr": "172.16.0.0/12"}]
    rules = [
        {"name": "many", "action": "Drop", "sources": blocks, "destinationPorts": [{"port": 1}, {"port": 9}]}
    ]
    compiler = told(
        RuleSetSet("f", host_filter(rules=rules)), InterfacesSet(frozenset({Interface("eth0", True)}))
    )
    mine = [e for e in compiler.tables().entries if e.action is Action.DROP]

    assert len(mine) > 20
    assert len({entry.rule for entry in mine}) == 1


def test_failsafe_ports_stand_above_a_filter_of_the_first_priority() -> None:
    first = RuleSetSet("f", host_filter(priority=0))
    compiler = told(first, InterfacesSet(frozenset({Interface("eth0", True), Interface("lo")})))
    tables = compiler.tables()

    (interface,) = tables.interfaces
    assert (interface.interface, interface.egress) == ("eth0", 0)
    assert interface.ingress >> 30 == ScopeSpace.HOST_INGRESS
    ordered = sorted(tables.entries, key=lambda entry: (entry.priority, entry.order))
    kinds = [tables.rules[entry.rule].kind for entry in ordered]
    assert kinds[-1] is RuleKind.WILDCARD_FILTER
    assert set(kinds[:-2]) == {RuleKind.FAILSAFE}


def test_a_filter_that_finds_none_of_its_interfaces_is_reported_once_these_are_known() -> None:
    compiler = told(RuleSetSet("f", host_filter()))
    assert compiler.tables().conditions == ()

    compiler.apply(InterfacesSet(frozenset({Interface("eth0")})))
    assert [condition.reason for condition in compiler.delta().conditions or ()] == ["NoInterface"]
    compiler.apply(InterfacesSet(frozenset({Interface("eth0", True)})))
    assert compiler.delta().conditions == ()


def test_a_filter_on_nodes_follows_the_labels_of_its_node() -> None:
    target = {
        "nodes": {"nodeSelector": {"matchLabels": {"edge": "yes"}}, "interfaces": {"patterns": ["eth*"]}}
    }
    compiler = told(
        RuleSetSet("f", host_filter(target=target)), InterfacesSet(frozenset({Interface("eth1")}))
    )
    assert compiler.tables().interfaces == ()

    compiler.apply(NodeSet(Node(NODE, labels=(("edge", "yes"),))))
    compiler.delta()
    assert [i.interface for i in compiler.tables().interfaces] == ["eth1"]


def test_what_is_removed_leaves_nothing_behind() -> None:
    compiler = told(pod(), policy(ingress=[{}], egress=[{"to": [{"podSelector": {}}]}]), peers("10.0.1.1"))
    compiler.apply(RuleSetRemoved("p"))
    compiler.apply(PodRemoved("shop", "web"))
    compiler.delta()
    tables = compiler.tables()

    assert (tables.rows, tables.entries, tables.rules, tables.pods) == ({}, frozenset(), {}, {})
    assert compiler.scopes() == {}
    assert compiler.class_keys() == {}
