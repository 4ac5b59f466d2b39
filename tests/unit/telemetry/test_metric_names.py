# SPDX-License-Identifier: Apache-2.0
"""The names of all metrics, once: alerts, dashboards and documentation may use these and no others."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import yaml
from prometheus_client import CollectorRegistry

from support.manifests import CHART, ROOT
from wildcard_operator.telemetry.metrics import AgentInstruments, MapUse, NodeCollector, RuleCount
from wildcard_operator.telemetry.operator_metrics import OperatorMetrics, PolicyStates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

AGENT = {
    "wildcard_commits_total",
    "wildcard_conntrack_entries",
    "wildcard_default_deny_packets_total",
    "wildcard_event_bytes_total",
    "wildcard_event_packets_total",
    "wildcard_map_bytes",
    "wildcard_map_capacity",
    "wildcard_map_entries",
    "wildcard_node_condition",
    "wildcard_program_errors_total",
    "wildcard_programming_latency_seconds",
    "wildcard_refused_objects",
    "wildcard_rule_bytes_total",
    "wildcard_rule_packets_total",
}
OPERATOR = {
    "wildcard_operator_compute_seconds",
    "wildcard_operator_leads",
    "wildcard_operator_network_policies",
    "wildcard_operator_network_policy_lagging_nodes",
    "wildcard_operator_nodes",
    "wildcard_operator_publish_errors_total",
    "wildcard_operator_publish_pending",
    "wildcard_operator_publish_seconds",
    "wildcard_operator_publish_wait_seconds",
    "wildcard_operator_published_objects",
    "wildcard_operator_refused_objects",
    "wildcard_operator_source_errors_total",
    "wildcard_operator_source_objects",
    "wildcard_operator_source_synced",
    "wildcard_operator_splitting_labels",
}
SERIES = {
    *AGENT,
    *OPERATOR,
    *(
        f"{name}_{part}"
        for name in AGENT | OPERATOR
        if name.endswith("_seconds")
        for part in ("bucket", "count", "sum")
    ),
}

OPERATING = ("conditions", "dashboard", "operations", "troubleshooting", "tutorial")
PAGES = [*(ROOT / f"docs/{name}.md" for name in OPERATING), *sorted((ROOT / "docs/runbooks").glob("*.md"))]


class Quiet:
    """A node, and an operator, where nothing has happened."""

    def rule_counts(self) -> Iterable[RuleCount]:
        return ()

    def event_counts(self) -> Mapping[str, tuple[int, int]]:
        return {}

    def map_uses(self) -> Iterable[MapUse]:
        return ()

    def conditions(self) -> Iterable[tuple[str, str]]:
        return ()

    def tracked_connections(self) -> int:
        return 0

    def leads(self) -> bool:
        return False

    def pending(self) -> int:
        return 0

    def nothing(self) -> dict[str, int]:
        return {}

    refused = synced = source_objects = published_objects = nodes = splitting_labels = nothing

    def policies(self) -> PolicyStates:
        return PolicyStates({}, {})


def exposed(registry: CollectorRegistry) -> Iterator[str]:
    for family in registry.collect():
        yield f"{family.name}_total" if family.type == "counter" else family.name


def test_an_agent_exposes_these() -> None:
    registry = CollectorRegistry()
    AgentInstruments(registry)
    registry.register(NodeCollector(Quiet()))

    assert set(exposed(registry)) == AGENT


def test_an_operator_exposes_these() -> None:
    registry = CollectorRegistry()
    OperatorMetrics(registry).watch(Quiet())

    assert set(exposed(registry)) == OPERATOR


def test_the_documentation_lists_these() -> None:
    listed = re.findall(r"^\| `(wildcard_\w+)` ", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)

    assert sorted(listed) == sorted(AGENT | OPERATOR)


def alert_queries() -> list[str]:
    rules = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def dashboard_queries() -> list[str]:
    panels = json.loads((CHART / "files/dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


@pytest.mark.parametrize("query", [*alert_queries(), *dashboard_queries()])
def test_a_query_asks_for_these(query: str) -> None:
    names = set(re.findall(r"\bwildcard_\w+", query))

    assert names
    assert names <= SERIES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_speaks_of_these(page: Path) -> None:
    written = set(re.findall(r"`(wildcard_\w+)", page.read_text()))

    assert written <= SERIES
