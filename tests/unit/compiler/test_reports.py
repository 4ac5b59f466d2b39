# SPDX-License-Identifier: Apache-2.0
"""Valid filters of which something is odd are reported, and only those."""

from __future__ import annotations

from typing import Any

import pytest

from wildcard_operator.compiler.filters import wildcard_filter
from wildcard_operator.compiler.reports import FilterReports
from wildcard_operator.model.entries import Reason

PODS: dict[str, Any] = {"pods": {}}
NODES: dict[str, Any] = {"nodes": {"interfaces": {"primary": True}}}


def reported(*specs: dict[str, Any]) -> list[tuple[str, str, Reason]]:
    reports = FilterReports()
    for number, spec in enumerate(specs):
        reports.set_filter(f"f{number}", parsed(f"f{number}", spec))
    return [(found.name, found.rule, found.reason) for found in reports.conditions()]


def parsed(name: str, spec: dict[str, Any]) -> Any:
    return wildcard_filter(
        {"metadata": {"name": name}, "spec": {"direction": "Ingress", "target": PODS} | spec}
    )


def rules(*made: dict[str, Any], **spec: Any) -> dict[str, Any]:
    named = [{"name": f"r{number}", "action": "Drop"} | rule for number, rule in enumerate(made)]
    return {"rules": named} | spec


@pytest.mark.parametrize(
    "spec",
    [
        rules({"protocol": "TCP"}, {"destinationPorts": [{"port": 80}], "protocol": "TCP"}),
        rules({"sources": [{"cidr": "10.0.0.0/8"}]}, {"sources": [{"cidr": "10.1.0.0/16"}]}),
        rules({}, {"sources": [{"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}]}),
        rules({"protocol": 47}, {"icmp": {"type": 0}, "protocol": "ICMP"}),
        rules({"protocol": 47}, {"sources": [{"cidr": "fd00::/8"}], "icmp": {"type": 8}, "protocol": "ICMP"}),
        rules({"tcpFlags": {"value": ["SYN"]}}, {"tcpFlags": {"value": ["SYN"], "mask": ["SYN", "ACK"]}}),
    ],
)
def test_a_rule_that_never_matches_is_reported(spec: dict[str, Any]) -> None:
    assert ("f0", "r1", Reason.NEVER_MATCHES) in reported(spec)


@pytest.mark.parametrize(
    "spec",
    [
        rules({"destinationPorts": [{"port": 80}], "protocol": "TCP"}, {"protocol": "TCP"}),
        rules(
            {"sources": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]},
            {"sources": [{"cidr": "10.1.0.0/24"}]},
        ),
        rules({"protocol": 47}, {"icmp": {"type": 0}, "protocol": "ICMP"}, target=NODES),
        rules({"tcpFlags": {"value": ["SYN"], "mask": ["SYN", "ACK"]}}, {"tcpFlags": {"value": ["SYN"]}}),
        rules({"sources": [{"cidr": "10.0.0.0/8"}]}, {"sources": [{"cidr": "fd00::/8"}]}),
    ],
)
def test_a_rule_that_may_match_is_not(spec: dict[str, Any]) -> None:
    assert reported(spec) == []


def test_filters_of_one_priority_that_disagree_are_both_reported() -> None:
    one, other = rules({"protocol": "TCP"}), rules({"action": "Allow"})

    assert reported(one, other) == [("f0", "r0", Reason.CONFLICTED), ("f1", "r0", Reason.CONFLICTED)]


@pytest.mark.parametrize(
    "other",
    [
        rules({"action": "Allow"}, priority=7),
        rules({"action": "Allow"}, mode="Audit"),
        rules({"action": "Allow"}, direction="Egress"),
        rules({"action": "Allow", "protocol": "UDP"}),
        rules({"protocol": "TCP"}),
        rules({"action": "Allow"}, target={"pods": {"podSelector": {"matchLabels": {"app": "db"}}}}),
        rules({"action": "Allow"}, target=NODES),
    ],
)
def test_filters_that_differ_in_what_they_are_asked_about_do_not_conflict(other: dict[str, Any]) -> None:
    one = rules({"protocol": "TCP"}, target={"pods": {"podSelector": {"matchLabels": {"app": "web"}}}})

    assert reported(one, other) == []


def test_a_conflict_ends_with_one_of_its_filters() -> None:
    reports = FilterReports()
    reports.set_filter("a", parsed("a", rules({"protocol": "TCP"})))
    reports.set_filter("b", parsed("b", rules({"action": "Allow"})))
    assert reports.conditions()

    reports.set_filter("a", None)
    assert reports.conditions() == ()
