# SPDX-License-Identifier: Apache-2.0
"""What a filter's status says, and what of it is told as an Event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from wildcard_operator.compiler.filters import wildcard_filter
from wildcard_operator.compiler.network_policies import network_policy
from wildcard_operator.controller.board import notices
from wildcard_operator.controller.status import (
    NAMED_POLICIES,
    FilterVerdict,
    filter_status,
    policy_progress,
    policy_states,
)
from wildcard_operator.controller.world import World
from wildcard_operator.kube.nodestate import FilterState, NodeCondition, NodeReport, PolicyException
from wildcard_operator.model.objects import Node, Pod

if TYPE_CHECKING:
    from wildcard_operator.model.rulesets import RuleSet

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
FILTER = {
    "metadata": {"name": "f", "generation": 2},
    "spec": {
        "direction": "Ingress",
        "target": {"pods": {"podSelector": {"matchLabels": {"app": "web"}}}},
        "rules": [{"name": "a", "action": "Drop"}],
    },
}


def world(*states: FilterState, ready: bool = True) -> World:
    """Three nodes: two with a pod that the filter selects, of which the first reports."""
    built = World()
    for name in ("one", "two", "three"):
        built.set_node(name, Node(name))
        if ready:
            built.set_agent(("operator", f"agent-{name}"), name)
    for number, node in enumerate(("one", "two")):
        built.set_pod(("shop", f"p{number}"), Pod("shop", f"p{number}", labels=(("app", "web"),), node=node))
    built.set_report("one", NodeReport(filters=states))
    built.set_report("two", NodeReport(filters=(FilterState("f", 2, True, entries=3),)))
    return built


def verdict(**changes: Any) -> FilterVerdict:
    return FilterVerdict(**{"generation": 2, "ruleset": wildcard_filter(FILTER), **changes})


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


def test_a_filter_is_programmed_when_every_node_with_its_pods_says_so() -> None:
    status = filter_status("f", verdict(), world(FilterState("f", 2, True, entries=5)), {}, NOW)

    assert status["nodes"] == {"desired": 2, "programmed": 2, "failed": 0}
    assert status["entriesUsed"] == 5
    assert conditions(status)["Programmed"] == ("True", "Programmed")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (FilterState("f", 1, True), "Pending"),
        (FilterState("f", 2, False, reason="HookInUse", message="somebody's"), "Failed"),
    ],
    ids=["an older generation", "a node that can't"],
)
def test_a_filter_is_not_programmed_while_one_node_lacks_it(state: FilterState, reason: str) -> None:
    status = filter_status("f", verdict(), world(state), {}, NOW)

    assert conditions(status)["Programmed"] == ("False", reason)
    message = next(one["message"] for one in status["conditions"] if one["type"] == "Programmed")
    assert "one" in message
    assert "two" not in message


def test_a_node_counts_only_while_its_agent_is_ready() -> None:
    status = filter_status("f", verdict(), world(FilterState("f", 2, True), ready=False), {}, NOW)

    assert status["nodes"] == {"desired": 2, "programmed": 0, "failed": 0}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ruleset": None}, {"Accepted": ("True", "Accepted"), "Programmed": ("False", "ModeOff")}),
        (
            {"ruleset": None, "refusal": ("InvalidPort", "spec.rules[0]: no")},
            {"Accepted": ("False", "InvalidPort"), "Programmed": ("False", "NotAccepted")},
        ),
        ({"remarks": ("odd",)}, {"Accepted": ("True", "AcceptedWithRemarks")}),
        ({"conflicts": ("with g",)}, {"Conflicted": ("True", "SamePriority")}),
    ],
    ids=["off", "refused", "odd", "conflicted"],
)
def test_each_verdict_has_its_conditions(
    changes: dict[str, Any], expected: dict[str, tuple[str, str]]
) -> None:
    status = filter_status("f", verdict(**changes), world(), {}, NOW)

    assert conditions(status).items() >= expected.items()


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = filter_status("f", verdict(), world(), {}, NOW)
    second = filter_status("f", verdict(), world(FilterState("f", 2, True)), first, LATER)

    times = {one["type"]: one["lastTransitionTime"] for one in second["conditions"]}
    assert times == {"Accepted": NOW, "Programmed": LATER, "Conflicted": NOW}


def test_what_changed_is_told_once() -> None:
    first = filter_status("f", verdict(), world(), {}, NOW)
    second = filter_status("f", verdict(), world(FilterState("f", 2, True)), first, LATER)
    refused = filter_status("f", verdict(ruleset=None, refusal=("InvalidPort", "no")), world(), second, LATER)

    assert [notice.reason for notice in notices({}, first)] == ["Accepted"]
    assert [notice.reason for notice in notices(first, second)] == ["Programmed"]
    assert notices(second, second) == []
    assert [(notice.type, notice.reason) for notice in notices(second, refused)] == [("Warning", "Refused")]


def policy(namespace: str, name: str) -> RuleSet:
    metadata = {"namespace": namespace, "name": name, "generation": 1}
    return network_policy({"metadata": metadata, "spec": {"podSelector": {"matchLabels": {"app": "web"}}}})


def test_policies_are_counted_by_the_revisions_of_the_nodes_that_have_their_pods() -> None:
    built = world()
    built.set_report("one", NodeReport(revision=10))
    exception = PolicyException("shop", "odd", "VolatileLabel", "selects nobody")
    built.set_report("two", NodeReport(revision=20, exceptions=(exception,)))
    policies = [
        (policy("shop", "old"), 10),
        (policy("shop", "new"), 11),
        (policy("shop", "unwritten"), None),
        (policy("shop", "odd"), 5),
        (policy("empty", "nowhere"), 99),
    ]

    states = policy_states(policies, built)

    assert states.counts == {"programmed": 2, "pending": 2, "failed": 1}
    assert states.lagging == {
        ("shop", "odd", "failed"): 1,
        ("shop", "new", "pending"): 1,
        ("shop", "unwritten", "pending"): 2,
    }


def test_only_so_many_policies_that_lag_are_named_and_failed_ones_first() -> None:
    built = world()
    exception = PolicyException("shop", "last", "VolatileLabel", "selects nobody")
    built.set_report("one", NodeReport(exceptions=(exception,)))
    policies = [(policy("shop", f"p{number}"), 1) for number in range(2 * NAMED_POLICIES)]

    states = policy_states([*policies, (policy("shop", "last"), 1)], built)

    assert states.counts == {"programmed": 0, "pending": 2 * NAMED_POLICIES, "failed": 1}
    assert len(states.lagging) == NAMED_POLICIES
    assert ("shop", "last", "failed") in states.lagging


@pytest.mark.parametrize(
    ("report", "ready", "why"),
    [
        (NodeReport(revision=5), True, None),
        (NodeReport(revision=5), False, "its agent is not ready"),
        (None, True, "its agent has not reported"),
        (NodeReport(revision=4), True, "its agent has not come to it yet"),
        (
            NodeReport(revision=4, conditions=(NodeCondition("Synced", False, "NotYet", "pods"),)),
            True,
            "NotYet: pods",
        ),
    ],
    ids=["in force", "not ready", "silent", "behind", "behind for a reason"],
)
def test_a_node_that_lags_is_named_with_the_reason(
    report: NodeReport | None, ready: bool, why: str | None
) -> None:
    built = world()
    built.set_report("one", NodeReport(revision=5))
    built.set_report("two", report)
    built.set_agent(("operator", "agent-two"), "two" if ready else None)

    progress = policy_progress(policy("shop", "web"), 5, built)

    assert progress.desired == {"one", "two"}
    assert progress.waiting == ({} if why is None else {"two": f"two: {why}"})
