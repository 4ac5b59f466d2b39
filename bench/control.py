# SPDX-License-Identifier: Apache-2.0
"""What the Kubernetes side costs, with a real API server: start, latencies, and the traffic of many agents.

`make bench-control` runs everything on this machine and writes docs/performance-control.md. Large states are
written into etcd directly; what is measured goes through the API server.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from agentmemory import Memory, memory_table
from bigcluster import loaded, records
from compiler import SHAPES
from document import machine, replace_section, table

from support.connections import Servers, connects
from support.kubenodes import KubeCluster, pod_object
from support.manifests import NAMESPACE, namespace
from support.operators import OperatorProcess
from support.processes import cpu_seconds, resident_mib
from support.restclient import RestClient
from support.waiting import wait_until
from wildcard_operator.kube.api import ADDRESS_SETS, NETWORK_POLICIES, PODS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.controlplane import ControlPlane

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance-control.md"
PODS_COUNT = POLICIES_COUNT = 10_000
WATCHERS = (10, 100, 200)
BUSY_SECONDS = 10
Raw = dict[str, Any]


# Figures


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Median, 99th percentile and worst, in milliseconds."""

    p50: float
    p99: float
    worst: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Quantiles:
        """Of measured times."""
        cuts = statistics.quantiles(seconds, n=100, method="inclusive")
        return cls(*(round(value * 1000, 1) for value in (cuts[49], cuts[98], max(seconds))))

    def cells(self) -> tuple[str, ...]:
        """For a table."""
        return tuple(f"{value:.1f}" for value in (self.p50, self.p99, self.worst))


class Watch:
    """Follows the AddressSets in a thread, and notes when each address appeared."""

    def __init__(self, plane: ControlPlane) -> None:
        self.seen: dict[str, float] = {}
        client = RestClient(plane)
        listed = client.request("GET", f"{ADDRESS_SETS.path(NAMESPACE)}?limit=1")
        version = listed["metadata"]["resourceVersion"]
        self._lines = RestClient(plane).stream(
            f"{ADDRESS_SETS.path(NAMESPACE)}?watch=true&resourceVersion={version}"
        )
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        for line in self._lines:
            now = time.monotonic()
            for address in json.loads(line)["object"].get("spec", {}).get("addresses", []):
                self.seen.setdefault(address, now)


@dataclass(frozen=True, slots=True)
class Start:
    """How an operator came up; `server_cpu` of the API server and etcd, `cpu` of the operator, in seconds."""

    seconds: float
    server_cpu: float
    cpu: float
    writes: int
    memory: float
    again: float
    again_writes: int


def measure_start(plane: ControlPlane) -> Start:
    """From the start of the process to the first complete state; and once more, with all of it there."""
    servers = (plane.apiserver.pid, plane.etcd.pid)
    before = sum(map(cpu_seconds, servers))
    with OperatorProcess(plane, "first") as first:
        seconds = first.wait_until_settled(300, every=1)
        server_cpu, cpu = sum(map(cpu_seconds, servers)) - before, cpu_seconds(first.pid)
        writes, memory = first.writes(), resident_mib(first.pid)
        first.stop()
    with OperatorProcess(plane, "second") as second:
        again = second.wait_until_settled(300, every=1)
        return Start(seconds, server_cpu, cpu, int(writes), memory, again, int(second.writes()))


class PodMaker:
    """Starts and ends pods as kubelets report them; `first` numbers the first."""

    def __init__(self, plane: ControlPlane, first: int = 0) -> None:
        self.client = RestClient(plane)
        self._next = first

    def create(self, count: int) -> list[Raw]:
        """Pods without an address yet."""
        made = []
        for _ in range(count):
            number = self._next = self._next + 1
            made.append(pod_object("bench", f"pod-{number}", "node-0", {"app": f"app-{number % 5}"}))
            self.client.create(made[-1])
        return made

    def report(self, pod: Raw) -> str:
        """Report a pod's address; returns it."""
        number = int(pod["metadata"]["name"].removeprefix("pod-"))
        address = f"172.20.{number >> 8 & 255}.{number & 255}"
        self.client.set_status(
            {**pod, "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
        )
        return address

    def end(self, pod: Raw) -> None:
        """Delete a pod."""
        self.client.delete(PODS, "bench", pod["metadata"]["name"])


def measure_pod_events(plane: ControlPlane, count: int = 200) -> Quantiles:
    """From the report of an address to the AddressSet that holds it, as another client sees it."""
    watch, pods = Watch(plane), PodMaker(plane)
    taken = []
    for pod in pods.create(count):
        begun = time.monotonic()
        address = pods.report(pod)
        wait_until(lambda address=address: address in watch.seen, 10, "the address is published", every=0.001)
        taken.append(watch.seen[address] - begun)
    return Quantiles.of(taken)


def measure_enforcement(
    plane: ControlPlane, nodes: int = 2, rounds: int = 50
) -> tuple[Quantiles, Quantiles, Memory]:
    """From the write of a policy, and of its deletion, to the packet that meets it; and an agent's memory."""
    deny = {"kind": "NetworkPolicy", "metadata": {"namespace": "bench", "name": "deny"}}
    deny |= {"spec": {"podSelector": {"matchLabels": {"app": "target"}}, "policyTypes": ["Ingress"]}}
    with KubeCluster(plane) as cluster, Servers() as servers:
        for number in range(nodes):
            cluster.add_node(f"bench-{number}")
        target = cluster.start_pod("bench", "target", "bench-0", {"app": "target"})
        source = cluster.start_pod("bench", "source", f"bench-{nodes - 1}").netns
        servers.listen(target.netns, 80)
        client, closed, opened = RestClient(plane), [], []

        def passes() -> bool:
            return connects(source, target.address(4), 80, patience=0.01)

        wait_until(passes, 10, "it is open at first")
        for _ in range(rounds):
            begun = time.monotonic()
            client.create(deny)
            wait_until(lambda: not passes(), 10, "it is closed", every=0.001)
            closed.append(time.monotonic() - 0.01 - begun)
            begun = time.monotonic()
            client.delete(NETWORK_POLICIES, "bench", "deny")
            wait_until(passes, 10, "it is open again", every=0.001)
            opened.append(time.monotonic() - begun)
        return Quantiles.of(closed), Quantiles.of(opened), Memory.of(cluster.nodes["bench-0"])


@dataclass(frozen=True, slots=True)
class Traffic:
    """What pod events cost with so many watchers."""

    watchers: int
    writes_an_event: float
    bytes_an_event: float
    cpu_an_event: float
    busy_events: float
    busy_egress: float
    busy_cpu: float


class Watchers:
    """Watchers of everything that is published, in a process of their own, that only count bytes."""

    def __init__(self, plane: ControlPlane, count: int) -> None:
        program = Path(__file__).with_name("watchers.py")
        command = [sys.executable, program, str(count), plane.folder, str(plane.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.bytes()

    def bytes(self) -> int:
        """Bytes received by all of them so far."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the watchers have no pipes")
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End them."""
        self._process.kill()
        self._process.communicate()


def measure_traffic(plane: ControlPlane, operator: OperatorProcess, count: int) -> Traffic:
    """A hundred events one after another, then a hundred a second."""
    watchers, pods = Watchers(plane, count), PodMaker(plane, 10_000 * WATCHERS.index(count) + 1_000)
    try:
        made = pods.create(50)
        before = (operator.writes(), watchers.bytes(), cpu_seconds(plane.apiserver.pid))
        for change in (pods.report, pods.end):
            for pod in made:
                change(pod)
                pace(20)
        wait_until_quiet(operator)
        after = (operator.writes(), watchers.bytes(), cpu_seconds(plane.apiserver.pid))
        writes, received, cpu = (late - early for early, late in zip(before, after, strict=True))
        events = 2 * len(made)
        busy = measure_busy(plane, pods, watchers)
        return Traffic(count, writes / events, received / count / events, cpu / events, *busy)
    finally:
        watchers.close()


def measure_busy(plane: ControlPlane, pods: PodMaker, watchers: Watchers) -> tuple[float, float, float]:
    """At 50 starts and ends a second each: events and bytes a second to all, and the API server's CPUs."""
    made = pods.create(50 * BUSY_SECONDS)
    begun, received, cpu = time.monotonic(), watchers.bytes(), cpu_seconds(plane.apiserver.pid)
    for number, pod in enumerate(made):
        pods.report(pod)
        if number >= 50:
            pods.end(made[number - 50])
        time.sleep(max(0.0, begun + number / 50 - time.monotonic()))
    took = time.monotonic() - begun
    egress = (watchers.bytes() - received) / took
    events = (2 * len(made) - 50) / took
    cpus = (cpu_seconds(plane.apiserver.pid) - cpu) / took
    for pod in made[-50:]:  # what stays makes every later event longer
        pods.end(pod)
    return events, egress, cpus


def pace(rate: float) -> None:
    """Keep events apart: what is gathered into one write would flatter the figures."""
    time.sleep(1 / rate)


def wait_until_quiet(operator: OperatorProcess) -> None:
    """Until removals, which wait a second, are written."""
    time.sleep(1.2)
    wait_until(lambda: operator.value("wildcard_operator_publish_pending") == 0, 20, "all is written")


# The document


def main() -> None:
    """Run everything and write the document."""
    replace_section(DOCUMENT, "machine", machine())
    replace_section(DOCUMENT, "start", start_table())
    with (
        loaded(records(SHAPES["chained selectors"](PODS_COUNT, POLICIES_COUNT))) as plane,
        ExitStack() as stack,
    ):
        plane.apply(namespace("bench"))
        operator = stack.enter_context(OperatorProcess(plane))
        operator.wait_until_settled(300, every=1)
        events = measure_pod_events(plane)
        closed, opened, memory = measure_enforcement(plane)
        replace_section(DOCUMENT, "latency", latency_table(events, closed, opened))
        traffic = [measure_traffic(plane, operator, count) for count in WATCHERS]
        replace_section(DOCUMENT, "traffic", traffic_table(traffic))
    replace_section(DOCUMENT, "memory", memory_table(memory))


def start_table() -> str:
    """All shapes."""
    rows = []
    for shape, objects in SHAPES.items():
        with loaded(records(objects(PODS_COUNT, POLICIES_COUNT))) as plane:
            one = measure_start(plane)
        rows.append(
            [
                shape,
                f"{one.seconds:.1f}",
                f"{one.server_cpu:.0f}",
                f"{one.cpu:.0f}",
                one.writes,
                f"{one.memory:.0f}",
                f"{one.again:.1f}",
                one.again_writes,
            ]
        )
    head = [
        "10,000 pods, 10,000 policies",
        "complete, s",
        "CPU of API server and etcd, s",
        "of the operator, s",
        "writes",
        "memory, MiB",
        "restart, s",
        "its writes",
    ]
    return table(head, rows)


def latency_table(events: Quantiles, closed: Quantiles, opened: Quantiles) -> str:
    """Milliseconds."""
    rows = [
        ["pod's address reported, to AddressSet seen by a watcher", *events.cells()],
        ["policy created, to the first packet that it drops", *closed.cells()],
        ["policy deleted, to the first packet that passes", *opened.cells()],
    ]
    return table(["milliseconds", "p50", "p99", "worst"], rows)


def traffic_table(traffic: Sequence[Traffic]) -> str:
    """One row for each number of watchers, and what it comes to with a thousand."""
    rows = [
        [
            str(one.watchers),
            f"{one.writes_an_event:.2f}",
            f"{one.bytes_an_event:.0f}",
            f"{one.cpu_an_event * 1000:.2f}",
            f"{one.busy_events:.0f}",
            f"{one.busy_egress / 1e6:.2f}",
            f"{one.busy_cpu:.2f}",
        ]
        for one in traffic
    ]
    most = traffic[-1]
    per_second = most.busy_egress / most.watchers * 1000 / most.busy_events * 100
    head = ["watchers", "writes an event", "bytes an event and watcher", "API server ms an event"]
    head += ["events a second", "egress, MB/s", "API server CPUs"]
    extrapolated = f"A thousand agents at 100 events a second: {per_second / 1e6:.0f} MB/s of egress."
    return f"{table(head, rows)}\n\n{extrapolated}"


if __name__ == "__main__":
    main()
