# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboard, from a list of panels: `build()` gives its JSON. Written by `make generate`.

Every query works on a Prometheus that scrapes operator and agents as the chart's monitors do: agents carry
the label `node`. Counts that begin with the first failure are joined with `vector(0)`: none shows as 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

RATE: Final = "[$__rate_interval]"
NODES: Final = 'node=~"$node"'
RULES: Final = f'{NODES}, namespace=~"$namespace"'
DROPS: Final = f'{RULES}, action="Drop"'
MOST_DENIED: Final = (
    "topk(15, sum by (kind, namespace, policy, rule, direction) "
    f"(increase(wildcard_rule_packets_total{{{DROPS}}}[1h])) > 0)"
)
WIDTH: Final = 24
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: queries with their legends. `kind` is Grafana's name of the visualisation."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    text: str = ""
    bad_above: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


def _rate(by: str, metric: str, selector: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{selector}}}{RATE}))"


def _quantile(quantile: float, metric: str, selector: str = "", by: str = "") -> str:
    labels = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({quantile}, {_rate(labels, f'{metric}_bucket', selector)})"


def _stat(title: str, query: str, unit: str = "short", bad_above: float | None = None) -> Panel:
    return Panel(title, ((query, ""),), unit, "stat", 4, 4, bad_above=bad_above)


ROWS: Final = (
    Row(
        "At a glance",
        (
            _stat("Nodes with a ready agent", 'max(wildcard_operator_nodes{state="ready"})'),
            _stat("Nodes without", 'max(wildcard_operator_nodes{state="unready"})', bad_above=1),
            _stat("Node conditions", f"count(wildcard_node_condition{{{NODES}}}) or vector(0)", bad_above=1),
            _stat(
                "Policies not in force",
                'max(wildcard_operator_network_policies{state="failed"})',
                bad_above=1,
            ),
            _stat(
                "Refused objects",
                "sum(max by (kind, reason) (wildcard_operator_refused_objects)) or vector(0)",
                bad_above=1,
            ),
            _stat(
                "Fullest map",
                f"max(wildcard_map_entries{{{NODES}}} / wildcard_map_capacity{{{NODES}}})",
                "percentunit",
                0.8,
            ),
        ),
    ),
    Row(
        "Verdicts",
        (
            Panel(
                "Packets by policy and filter",
                (
                    (
                        _rate("kind, namespace, policy, action", "wildcard_rule_packets_total", RULES),
                        "{{kind}} {{namespace}}/{{policy}} {{action}}",
                    ),
                ),
                "pps",
                width=12,
            ),
            Panel(
                "Bytes by policy and filter",
                (
                    (
                        _rate("kind, namespace, policy, action", "wildcard_rule_bytes_total", RULES),
                        "{{kind}} {{namespace}}/{{policy}} {{action}}",
                    ),
                ),
                "Bps",
                width=12,
            ),
            Panel(
                "Drops by rule",
                (
                    (
                        _rate("kind, namespace, policy, rule", "wildcard_rule_packets_total", DROPS),
                        "{{kind}} {{namespace}}/{{policy}} {{rule}}",
                    ),
                ),
                "pps",
                width=12,
            ),
            Panel(
                "Isolated pods: drops that no rule allows",
                (
                    (
                        _rate("namespace, direction", "wildcard_default_deny_packets_total", RULES),
                        "{{namespace}} {{direction}}",
                    ),
                ),
                "pps",
                width=12,
            ),
            Panel(
                "Most denied in the last hour",
                ((MOST_DENIED, ""),),
                kind="table",
                width=12,
            ),
            Panel(
                "Packets that no rule decided",
                ((_rate("event", "wildcard_event_packets_total", NODES), "{{event}}"),),
                "pps",
                width=12,
                text="spoofed, malformed, fragment, unknown_pod were dropped; see docs/datapath.md.",
            ),
        ),
    ),
    Row(
        "Maps",
        (
            Panel(
                "Fill",
                (
                    (
                        f"max by (map) (wildcard_map_entries{{{NODES}}} / wildcard_map_capacity{{{NODES}}})",
                        "{{map}}",
                    ),
                ),
                "percentunit",
                text="Of the fullest node. A change that does not fit is refused as a whole.",
            ),
            Panel(
                "Entries",
                ((f"max by (map) (wildcard_map_entries{{{NODES}}})", "{{map}}"),),
            ),
            Panel(
                "Memory",
                ((f"sum by (node) (wildcard_map_bytes{{{NODES}}})", "{{node}}"),),
                "bytes",
            ),
        ),
    ),
    Row(
        "From a change to the kernel",
        (
            Panel(
                "Programming latency of the nodes",
                tuple(
                    (
                        _quantile(quantile, "wildcard_programming_latency_seconds", NODES),
                        f"p{quantile * 100:.0f}",
                    )
                    for quantile in (0.5, 0.9, 0.99)
                ),
                "s",
            ),
            Panel(
                "Commits",
                ((_rate("node", "wildcard_commits_total", NODES), "{{node}}"),),
                "ops",
            ),
            Panel(
                "Changes that failed",
                (
                    (
                        _rate("node, stage", "wildcard_program_errors_total", NODES) + " or vector(0)",
                        "{{node}} {{stage}}",
                    ),
                ),
                "ops",
            ),
        ),
    ),
    Row(
        "Nodes",
        (
            Panel(
                "What nodes can't do",
                ((f"wildcard_node_condition{{{NODES}}} or vector(0)", ""),),
                kind="table",
            ),
            Panel(
                "Objects not in force as written",
                (
                    (
                        f"sum by (node, kind) (wildcard_refused_objects{{{NODES}}}) or vector(0)",
                        "{{node}} {{kind}}",
                    ),
                ),
            ),
            Panel(
                "Tracked connections",
                ((f"wildcard_conntrack_entries{{{NODES}}}", "{{node}}"),),
            ),
        ),
    ),
    Row(
        "Operator",
        (
            Panel("Leader", (("wildcard_operator_leads", "{{pod}}{{instance}}"),), width=6),
            Panel(
                "NetworkPolicies",
                (("max by (state) (wildcard_operator_network_policies)", "{{state}}"),),
                width=6,
            ),
            Panel(
                "Objects read",
                (("max by (resource) (wildcard_operator_source_objects)", "{{resource}}"),),
                width=6,
            ),
            Panel(
                "Objects published",
                (("max by (resource) (wildcard_operator_published_objects)", "{{resource}}"),),
                width=6,
            ),
            Panel(
                "Time from a change to its write, p99",
                (
                    (
                        _quantile(0.99, "wildcard_operator_publish_wait_seconds", by="resource"),
                        "{{resource}}",
                    ),
                ),
                "s",
                width=6,
            ),
            Panel("Waiting to be written", (("max(wildcard_operator_publish_pending)", "objects"),), width=6),
            Panel(
                "Time to take in one object, p99",
                (
                    (
                        _quantile(0.99, "wildcard_operator_compute_seconds", by="resource"),
                        "{{resource}}",
                    ),
                ),
                "s",
                width=6,
            ),
            Panel(
                "API errors",
                (
                    (
                        _rate("resource, status", "wildcard_operator_source_errors_total") + " or vector(0)",
                        "read {{resource}} {{status}}",
                    ),
                    (
                        _rate("resource, status", "wildcard_operator_publish_errors_total") + " or vector(0)",
                        "write {{resource}} {{status}}",
                    ),
                ),
                "ops",
                width=6,
            ),
        ),
    ),
)


def build() -> str:
    """The dashboard as JSON text."""
    content = {
        "uid": "wildcard-operator",
        "title": "wildcard-operator",
        "description": "Policies and filters: what they decide, and whether they are in force.",
        "tags": ["network-policy", "ebpf"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                _source(),
                _variable("node", "wildcard_commits_total"),
                _variable("namespace", "wildcard_rule_packets_total"),
            ]
        },
        "panels": _panels(),
    }
    return json.dumps(content, indent=1) + "\n"


def _panels() -> list[dict[str, Any]]:
    placed: list[dict[str, Any]] = []
    top = 0
    for row in ROWS:
        grid = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        placed.append(
            {
                "id": len(placed) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": grid,
            }
        )
        left, top, tallest = 0, top + 1, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top, tallest = 0, top + tallest, 0
            grid = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            placed.append({"id": len(placed) + 1, "gridPos": grid, **_panel(panel)})
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return placed


def _panel(panel: Panel) -> dict[str, Any]:
    is_table, is_stat = panel.kind == "table", panel.kind == "stat"
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": SOURCE,
            "expr": query,
            "legendFormat": legend,
            "instant": is_table or is_stat,
            "range": not (is_table or is_stat),
            **({"format": "table"} if is_table else {}),
        }
        for number, (query, legend) in enumerate(panel.queries)
    ]
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.bad_above is not None:
        steps.append({"color": "red", "value": panel.bad_above})
    defaults = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}}
        if panel.kind == "timeseries"
        else {},
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(label: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {label})"
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": label},
        "definition": query,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
    }
