# SPDX-License-Identifier: Apache-2.0
"""One real cluster with two real kubelets for the module, and a shop in it."""

from __future__ import annotations

import os
import subprocess
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import pytest

from support.manifests import NAMESPACE, ROOT, namespace
from support.realcluster.cluster import IMAGE, RealCluster, why_not
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PORTS = (80, 81)
PROBER = Path(__file__).with_name("prober.py").read_text()
SERVER = Path(__file__).with_name("server.py").read_text()


class Shop:
    """A web server on either node behind one Service, and a friend and a stranger on either node."""

    clients = ("friend-n1", "friend-n2", "stranger-n1", "stranger-n2")

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster = cluster
        cluster.apply(namespace("market"), service(), *(server(node) for node in cluster.nodes))
        address = cluster.get("service", "web", "-n", "market")["spec"]["clusterIP"]
        cluster.apply(*(client(name, address) for name in self.clients))
        cluster.kubectl("wait", "--for=condition=Ready", "pod", "--all", "-n", "market", "--timeout=90s")

    def answers(self, since: float) -> dict[str, dict[int, set[str]]]:
        """What each client has seen of each port in attempts that began after a time."""
        seen: dict[str, dict[int, set[str]]] = {}
        for name in self.clients:
            ports: defaultdict[int, set[str]] = defaultdict(set)
            for port, answer in self.attempts(name, since):
                ports[port].add(answer)
            seen[name] = dict(ports)
        return seen

    def attempts(self, name: str, since: float) -> list[tuple[int, str]]:
        """A client's attempts that began after a time: which port, yes or no."""
        written = datetime.fromtimestamp(since, UTC).isoformat()  # an attempt is written when it has ended
        lines = self.cluster.kubectl("logs", "-n", "market", name, f"--since-time={written}").splitlines()
        split = (line.split() for line in lines)
        return [(int(port), answer) for started, port, answer in split if float(started) > since]

    def wait_until_all_see(self, expected: dict[str, set[int]], seconds: float = 90) -> None:
        """Until every client reaches exactly these ports, again and again."""
        wanted = {
            name: {port: {"yes" if port in reached else "no"} for port in PORTS}
            for name, reached in expected.items()
        }
        seen: dict[str, dict[int, set[str]]] = {}

        def holds() -> bool:
            nonlocal seen
            since = time()
            wait_until(lambda: self._has_tried(since), 60, "every client has tried again", every=0.3)
            seen = self.answers(since)
            return seen == wanted

        wait_until(holds, seconds, lambda: f"clients see {wanted}, they see {seen}", every=0.1)

    def _has_tried(self, since: float) -> bool:
        counts: dict[tuple[str, int], int] = defaultdict(int)
        for name in self.clients:
            for port, _ in self.attempts(name, since):
                counts[name, port] += 1
        return all(counts[name, port] >= 2 for name in self.clients for port in PORTS)


def service() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "market", "name": "web"},
        "spec": {
            "selector": {"app": "web"},
            "ports": [{"name": f"p{port}", "port": port, "targetPort": 8000 + port} for port in PORTS],
        },
    }


def pod(name: str, node: str, labels: dict[str, str], containers: list[dict[str, Any]]) -> dict[str, Any]:
    for container in containers:
        container.update(image=IMAGE, imagePullPolicy="Never")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "market", "name": name, "labels": labels},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 1,
            "containers": containers,
        },
    }


def server(node: str) -> dict[str, Any]:
    containers = [
        {
            "name": f"p{port}",
            "command": ["python3", "-c", SERVER, str(8000 + port)],
            "readinessProbe": {"tcpSocket": {"port": 8000 + port}, "periodSeconds": 1},
        }
        for port in PORTS
    ]
    return pod(f"web-{node}", node, {"app": "web"}, containers)


def client(name: str, address: str) -> dict[str, Any]:
    role, _, node = name.partition("-")
    command = ["python3", "-c", PROBER, address, *map(str, PORTS)]
    return pod(name, node, {"app": role}, [{"name": "prober", "command": command}])


@pytest.fixture(scope="session")
def cluster() -> Iterator[RealCluster]:
    if reason := why_not():
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    built = subprocess.run(
        [ROOT / "tests/support/realcluster/images.sh"], check=True, stdout=subprocess.PIPE, text=True
    )
    with RealCluster([Path(line) for line in built.stdout.splitlines()]) as running:
        running.apply(namespace(NAMESPACE, **{"pod-security.kubernetes.io/enforce": "privileged"}))
        yield running


@pytest.fixture(scope="session")
def shop(cluster: RealCluster) -> Shop:
    return Shop(cluster)
