# SPDX-License-Identifier: Apache-2.0
"""Every metric of an agent by name, and what its labels say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from wildcard_operator.model.entries import RuleKind, RuleName
from wildcard_operator.model.net import Action, Direction
from wildcard_operator.telemetry.metrics import AgentInstruments, MapUse, NodeCollector, RuleCount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric

NAMES = {
    "wildcard_commits",
    "wildcard_conntrack_entries",
    "wildcard_default_deny_packets",
    "wildcard_event_bytes",
    "wildcard_event_packets",
    "wildcard_map_bytes",
    "wildcard_map_capacity",
    "wildcard_map_entries",
    "wildcard_node_condition",
    "wildcard_program_errors",
    "wildcard_programming_latency_seconds",
    "wildcard_refused_objects",
    "wildcard_rule_bytes",
    "wildcard_rule_packets",
}
DENY = RuleName(RuleKind.DEFAULT_DENY, "shop", "", "default-deny", Direction.INGRESS, Action.DROP)
ALLOW = RuleName(RuleKind.NETWORK_POLICY, "shop", "web", "ingress[0]", Direction.INGRESS, Action.ALLOW)


class Readings:
    def rule_counts(self) -> Iterable[RuleCount]:
        return [RuleCount(ALLOW, 7, 700), RuleCount(DENY, 3, 180)]

    def event_counts(self) -> Mapping[str, tuple[int, int]]:
        return {"spoofed": (2, 84)}

    def map_uses(self) -> Iterable[MapUse]:
        return [MapUse("rules_v4", 2, 64, 4096)]

    def conditions(self) -> Iterable[tuple[str, str]]:
        return [("NoNftables", "")]

    def refused(self) -> Mapping[str, int]:
        return {"NetworkPolicy": 1}

    def tracked_connections(self) -> int | None:
        return 5


def scraped() -> dict[str, Metric]:
    registry = CollectorRegistry()
    registry.register(NodeCollector(Readings()))
    AgentInstruments(registry).errors.labels("commit").inc()
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {family.name: family for family in families if not family.name.endswith("_created")}


def test_the_names_are_these() -> None:
    assert set(scraped()) == NAMES


def test_a_rules_labels_tell_whose_it_is() -> None:
    (allowed, denied) = scraped()["wildcard_rule_packets"].samples

    assert allowed.value == 7
    assert allowed.labels == {
        "kind": "NetworkPolicy",
        "namespace": "shop",
        "policy": "web",
        "rule": "ingress[0]",
        "direction": "Ingress",
        "action": "Allow",
    }
    assert denied.labels["kind"] == "DefaultDeny"


def test_default_denies_are_summed_by_namespace_and_direction() -> None:
    (sample,) = scraped()["wildcard_default_deny_packets"].samples

    assert (sample.labels, sample.value) == ({"namespace": "shop", "direction": "Ingress"}, 3)


def test_counts_carry_the_suffix_of_counters() -> None:
    families = scraped()
    for name, family in families.items():
        wanted = "counter" if any(s.name.endswith("_total") for s in family.samples) else family.type
        assert family.type == wanted, name
