# SPDX-License-Identifier: Apache-2.0
"""RuleSets survive the way through the API, and what an agent does not understand fails closed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.rule_strategies import network_policies, wildcard_filters
from wildcard_operator.compiler.filters import wildcard_filter
from wildcard_operator.compiler.network_policies import network_policy
from wildcard_operator.model.entries import Reason
from wildcard_operator.model.errors import ObjectRef
from wildcard_operator.model.net import Action, Direction
from wildcard_operator.model.ruleset_parser import ruleset_from_dict
from wildcard_operator.model.rulesets import AnyPeer, Namespaces, Nodes, Pods, RuleSet, ruleset_name

POLICY = ObjectRef("NetworkPolicy", "shop", "web")


def spec(**changes: Any) -> dict[str, Any]:
    return {
        "formatVersion": 1,
        "source": {"kind": "NetworkPolicy", "namespace": "shop", "name": "web"},
        "generation": 1,
        "mode": "Enforce",
        "priority": 1_000_000,
        "subject": {"pods": {"namespaces": {"name": "shop"}, "selector": []}},
        "isolates": ["Ingress"],
        "rules": [rule()],
    } | changes


def rule(**changes: Any) -> dict[str, Any]:
    return {
        "id": "r",
        "place": 0,
        "direction": "Ingress",
        "action": "Allow",
        "peers": [{"any": {}}],
    } | changes


@settings(max_examples=100, deadline=None)
@given(st.one_of(network_policies(), wildcard_filters()))
def test_a_ruleset_comes_back_from_its_dict_as_it_was(raw: dict[str, Any]) -> None:
    ruleset = network_policy(raw) if raw["kind"] == "NetworkPolicy" else wildcard_filter(raw)
    if ruleset is None:
        return
    written = ruleset.to_dict()

    back = ruleset_from_dict(written, ruleset.source)
    assert back.to_dict() == written
    assert back.problems == ()


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "text",
        {},
        spec(formatVersion=2),
        spec(formatVersion="1"),
        spec(source={"kind": "ClusterNetworkPolicy", "namespace": "", "name": "x"}),
        spec(mode="Dream"),
        spec(rules=[{"id": "r"}]),
        spec(rules=[rule(peers=[{"block": {"cidr": "nonsense"}}])]),
        spec(subject={}),
    ],
)
def test_what_cannot_be_read_isolates_the_namespace_in_both_directions(broken: Any) -> None:
    ruleset = ruleset_from_dict(broken, POLICY)

    assert ruleset.subject == Pods(Namespaces("shop"))
    assert ruleset.isolates == tuple(Direction)
    assert ruleset.rules == ()
    assert [problem.reason for problem in ruleset.problems] == [Reason.UNKNOWN_FORMAT]


def test_an_unreadable_filter_on_nodes_cuts_nobody_off() -> None:
    subject = {"nodes": {"selector": [], "interfaces": {"primary": True}}}
    ruleset = ruleset_from_dict(
        spec(formatVersion=2, subject=subject), ObjectRef("WildcardFilter", "", "edge")
    )

    assert isinstance(ruleset.subject, Nodes)
    assert (ruleset.isolates, ruleset.rules) == ((), ())
    assert ruleset.problems


def only_rule(ruleset: RuleSet) -> Any:
    assert ruleset.problems
    (found,) = ruleset.rules
    return found


def test_an_unknown_action_drops() -> None:
    assert only_rule(ruleset_from_dict(spec(rules=[rule(action="Mirror")]), POLICY)).action is Action.DROP


def test_an_unknown_peer_never_allows_and_drops_whomever_it_may_mean() -> None:
    unknown = [{"domain": {"name": "example.org"}}]

    assert only_rule(ruleset_from_dict(spec(rules=[rule(peers=unknown)]), POLICY)).peers == ()
    dropping = rule(action="Drop", peers=unknown)
    assert only_rule(ruleset_from_dict(spec(rules=[dropping]), POLICY)).peers == (AnyPeer(),)


def test_an_unknown_match_never_allows_and_drops_without_it() -> None:
    unknown = [{"protocol": 6, "dscp": 4}]

    assert only_rule(ruleset_from_dict(spec(rules=[rule(traffic=unknown)]), POLICY)).traffic == ()
    dropping = rule(action="Drop", traffic=unknown)
    assert only_rule(ruleset_from_dict(spec(rules=[dropping]), POLICY)).traffic[0].protocol is None


def test_a_rule_with_a_condition_of_a_later_version_never_allows() -> None:
    assert only_rule(ruleset_from_dict(spec(rules=[rule(expiresAt="2030-01-01")]), POLICY)).peers == ()


def test_names_of_rulesets_tell_namespace_and_name_apart() -> None:
    one = ruleset_name(ObjectRef("NetworkPolicy", "a", "b-c"))
    other = ruleset_name(ObjectRef("NetworkPolicy", "a-b", "c"))

    assert one != other
    assert one.startswith("networkpolicy-")
