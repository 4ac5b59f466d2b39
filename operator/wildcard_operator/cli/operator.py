# SPDX-License-Identifier: Apache-2.0
"""`wildcard-operator`: compiles policies and publishes them for the agents."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import click
import kopf
from prometheus_client import CollectorRegistry

from wildcard_operator.controller.endpoints import serving
from wildcard_operator.controller.handlers import make_registry
from wildcard_operator.controller.replica import Replica
from wildcard_operator.controller.settings import PUBLISH_QPS, Settings
from wildcard_operator.model.addresssets import DEFAULT_VOLATILE_LABELS
from wildcard_operator.telemetry import logs
from wildcard_operator.telemetry.operator_metrics import OperatorMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(context_settings={"auto_envvar_prefix": "WILDCARD_OPERATOR", "show_default": True})
@click.option(
    "--namespace", default="wildcard-operator", help="Where the published objects and the agents' pods are."
)
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="How to reach the API server; in a pod, its service account by default.",
)
@click.option(
    "--publish-qps", type=click.FloatRange(min=1), default=PUBLISH_QPS, help="Writes a second at most."
)
@click.option("--metrics-port", default=8080, help="Serves /metrics and /readyz.")
@click.option("--health-port", default=8081, help="Serves /healthz.")
@click.option(
    "--volatile-label",
    "volatile_labels",
    multiple=True,
    default=sorted(DEFAULT_VOLATILE_LABELS),
    help="A label that is no part of a pod's identity, as nobody can know its value beforehand.",
)
def main(
    namespace: str,
    kubeconfig: Path | None,
    publish_qps: float,
    metrics_port: int,
    health_port: int,
    volatile_labels: Sequence[str],
) -> None:
    """Compile NetworkPolicies and WildcardFilters, and publish them for the agents on the nodes."""
    settings = Settings(
        namespace=namespace,
        identity=f"{os.environ.get('POD_NAME') or socket.gethostname()}-{uuid.uuid4().hex[:8]}",
        kubeconfig=kubeconfig,
        publish_qps=publish_qps,
        metrics_port=metrics_port,
        health_port=health_port,
        volatile_labels=frozenset(volatile_labels),
    )
    logs.configure()
    sys.exit(asyncio.run(run(settings)))


async def run(settings: Settings) -> int:
    """Run the operator until a signal ends it; the process's exit status."""
    registry = CollectorRegistry()
    replica = Replica(settings, OperatorMetrics(registry))
    # kopf listens on one address: the pod's own, of whichever family.
    own = os.environ.get("POD_IP", "127.0.0.1")
    address = f"[{own}]" if ":" in own else own
    async with serving(settings.metrics_port, registry, replica.ready):
        await kopf.operator(
            registry=make_registry(replica),
            clusterwide=True,
            standalone=True,
            liveness_endpoint=f"http://{address}:{settings.health_port}/healthz",
            stop_flag=replica.failed,
        )
    return 1 if replica.failed.is_set() else 0
