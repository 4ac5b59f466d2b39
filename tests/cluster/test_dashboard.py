# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes a real operator and real agents, and answers every query of the dashboard.

There is no Grafana to be had here, so the panels are plotted from the same data; `make dashboard-picture`
keeps the plot in docs/images/dashboard.svg.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.connections import Servers, connects
from support.dashboard import Panel, draw, panels
from support.kubenodes import METRICS_PORT, KubeCluster
from support.manifests import namespace, wildcard_filter
from support.prometheus import Prometheus, prometheus
from support.relay import Relays
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.controlplane import ControlPlane
    from support.operators import OperatorProcess

SHOWN_SECONDS = 18
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"namespace": "plotted", "name": "web"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
    },
}
FILTER = wildcard_filter(
    "no-8081",
    {
        "direction": "Ingress",
        "target": {"pods": {"podSelector": {"matchLabels": {"app": "web"}}}},
        "rules": [
            {"name": "second", "action": "Drop", "protocol": "TCP", "destinationPorts": [{"port": 8081}]}
        ],
    },
)


@pytest.fixture(scope="module")
def scraped(installed: ControlPlane, operator: OperatorProcess) -> Iterator[Prometheus]:
    """A Prometheus that has seen traffic before and after a policy and a filter."""
    with KubeCluster(installed) as cluster, Servers() as servers:
        nodes = [cluster.add_node("node-1"), cluster.add_node("node-2", "bridge")]
        installed.apply(namespace("plotted"))
        web = cluster.start_pod("plotted", "web", "node-1", {"app": "web"})
        clients = [
            cluster.start_pod("plotted", name, "node-2", {"app": name}) for name in ("friend", "stranger")
        ]
        servers.listen(web.netns, 8080, 8081)
        targets = {f"{kube.node.addresses[0]}:{METRICS_PORT}": kube.name for kube in nodes}
        outside = cluster.fabric.outside
        with Relays() as relays:
            relays.open(outside, operator.metrics_port)
            with prometheus(outside, {**targets, f"127.0.0.1:{operator.metrics_port}": ""}) as running:
                for change in (None, POLICY, FILTER):
                    if change is not None:
                        installed.apply(change)
                    until = time.monotonic() + SHOWN_SECONDS / 3
                    while time.monotonic() < until:
                        for client in clients:
                            for port in (8080, 8081):
                                connects(client.netns, web.address(4), port, patience=0.05)
                yield running
        installed.kubectl("delete", "networkpolicy", "web", "-n", "plotted")
        installed.kubectl("delete", "wildcardfilter", "no-8081")


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel.title)
def test_every_query_of_a_panel_returns_data(scraped: Prometheus, panel: Panel) -> None:
    for query, _ in panel.queries:
        wait_until(lambda query=query: scraped.query(query), 20, f"there is data for {query}")


def test_the_panels_can_be_drawn(scraped: Prometheus, tmp_path: Path) -> None:
    target = Path(os.environ.get("DASHBOARD_PICTURE", tmp_path / "dashboard.svg"))

    draw(scraped, SHOWN_SECONDS, target)

    assert target.stat().st_size > 20_000
