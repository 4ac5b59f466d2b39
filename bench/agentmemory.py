# SPDX-License-Identifier: Apache-2.0
"""What an agent keeps in memory, with a real API server: part of `make bench-control`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bigcluster import let_everybody_in, loaded, many_address_sets
from document import table

from support.kubenodes import KubeCluster
from support.manifests import NAMESPACE, namespace
from support.restclient import RestClient
from support.waiting import wait_until
from wildcard_operator.kube.api import ADDRESS_SETS

if TYPE_CHECKING:
    from support.controlplane import ControlPlane
    from support.kubenodes import KubeNode

SETS, CHANGES = 20_000, 50
PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process in MiB: its own, and what it maps of files and of the kernel's maps."""

    private: float
    mapped: float

    @classmethod
    def of(cls, node: KubeNode) -> Memory:
        """Of a node's agent."""
        if node.process is None:
            raise AssertionError("the agent has ended")
        status = Path(f"/proc/{node.process.pid}/status").read_text(encoding="ascii")
        kib = {
            line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if line.startswith("Rss")
        }
        return cls(kib["RssAnon"] / 1024, (kib["RssFile"] + kib["RssShmem"]) / 1024)


def measure_agent_memory() -> tuple[Memory, Memory]:
    """Memory of an agent that has to know SETS AddressSets of five addresses each, and after CHANGES."""
    with loaded(many_address_sets(SETS)) as plane:
        let_everybody_in(plane)
        plane.apply(namespace("bench"))
        with KubeCluster(plane) as cluster:
            node = cluster.add_node("bench-0", "ptp", "--max-addresses", str(1 << 18))
            cluster.start_pod("bench", "one", "bench-0")
            wait_until(lambda: addresses_of(node) > 5 * SETS, 120, "it knows all addresses")
            first, known = Memory.of(node), addresses_of(node)
            add_addresses(plane)
            wait_until(lambda: addresses_of(node) >= known + CHANGES, 60, "it knows the new addresses")
            return first, Memory.of(node)


def addresses_of(node: KubeNode) -> float:
    """How many addresses a node's kernel knows."""
    return node.value("wildcard_map_entries", map="addresses")


def add_addresses(plane: ControlPlane) -> None:
    """Add an address to CHANGES AddressSets, one after another, as pods that start do."""
    client = RestClient(plane)
    page = client.request("GET", f"{ADDRESS_SETS.path(NAMESPACE)}?limit={CHANGES}")
    for number, item in enumerate(page["items"]):
        item["spec"]["addresses"].append(f"10.250.0.{number}")
        client.request("PUT", ADDRESS_SETS.path(NAMESPACE, item["metadata"]["name"]), item)
        time.sleep(PAUSE_SECONDS)


def memory_table(with_few_peers: Memory) -> str:
    """Memory of agents, in MiB; the first was measured elsewhere."""
    first, later = measure_agent_memory()
    agents = (
        ("in the cluster above, with few peers", with_few_peers),
        ("with 20,000 AddressSets of 5 addresses each", first),
        ("the same after 50 of them have changed", later),
    )
    rows = [[name, f"{one.private:.0f}", f"{one.mapped:.0f}"] for name, one in agents]
    return table(["agent, MiB", "its own", "the kernel's maps and libraries, mapped"], rows)
