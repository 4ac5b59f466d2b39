# SPDX-License-Identifier: Apache-2.0
"""Builds the clusters of `tests/cases` out of namespaces, and changes them from step to step.

Three nodes, one of them with its pods on a bridge, each with an agent. An address that belongs to no pod and
no node is a host outside of the cluster, or, in a node's pod range, a pod that the API does not know.
"""

from __future__ import annotations

import ipaddress
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from support.agents import LocalAgent
from support.plain_objects import host_addresses_of
from support.topology import Fabric
from support.traffic import Prober

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from support.cases import Step
    from support.netns import Namespace
    from support.probes import Object
    from support.topology import Node

NODES = {"node-1": "ptp", "node-2": "bridge", "node-3": "ptp"}


class CaseCluster:
    """A live cluster that goes from one step's state to another's. Use it as a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._homes: dict[str, Namespace] = {}
        self._extra: dict[str, set[str]] = {name: set() for name in NODES}
        self._outside: set[str] = set()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.fabric = stack.enter_context(Fabric())
            self.nodes = {name: self.fabric.add_node(name, cni) for name, cni in NODES.items()}
            self.agents = [stack.enter_context(LocalAgent(node)) for node in self.nodes.values()]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def go_to(self, step: Step, told: Sequence[Object] | None = None) -> None:
        """Make the cluster what the step's objects say, and every agent know it; or tell it other objects."""
        ends = {end.address for probe in step.probes for end in (probe.source, probe.destination)}
        for node in self.nodes.values():
            self._set_node_addresses(node, _node_addresses(step.objects, node.name))
        self._set_pods(_pods(step.objects), ends)
        for agent in self.agents:
            agent.apply(*(step.objects if told is None else told))

    def wrong_answers(self, step: Step) -> list[str]:
        """The probes of a step whose fate is not as stated."""
        with Prober(self.locate) as prober:
            answers = prober.run(step.probes)
        return [
            f"{'passed' if answer else 'did not pass'}: {probe.query()}"
            for probe, answer in zip(step.probes, answers, strict=True)
            if answer != probe.allowed
        ]

    def locate(self, address: str) -> Namespace:
        """The namespace that an address lives in."""
        if address in self._homes:
            return self._homes[address]
        if address not in self._outside:
            self._outside.add(address)
            self.fabric.outside_address(address)
        return self.fabric.outside

    def _set_node_addresses(self, node: Node, wanted: set[str]) -> None:
        extra = wanted - set(node.addresses)
        for address in self._extra[node.name] - extra:
            self.fabric.remove_node_address(node, address)
            del self._homes[address]
        for address in extra - self._extra[node.name]:
            self.fabric.add_node_address(node, address)
        self._extra[node.name] = extra
        self._homes.update(dict.fromkeys((*node.addresses, *extra), node.netns))

    def _set_pods(self, pods: Sequence[tuple[str, tuple[str, ...]]], ends: Iterable[str]) -> None:
        wanted = self._wanted(pods, ends)
        for node in self.nodes.values():
            for name, pod in list(node.pods.items()):
                if wanted.get(name) != (node.name, pod.addresses):
                    node.remove_pod(name)
                    for address in pod.addresses:
                        self._homes.pop(address, None)
        for name, (node_name, addresses) in wanted.items():
            node = self.nodes[node_name]
            if name not in node.pods:
                pod = node.add_pod(name, *addresses)
                self._homes.update(dict.fromkeys(addresses, pod.netns))

    def _wanted(
        self, pods: Sequence[tuple[str, tuple[str, ...]]], ends: Iterable[str]
    ) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Namespaces that there should be, by their first address: the node, and all addresses."""
        wanted: dict[str, tuple[str, tuple[str, ...]]] = {}
        taken = {a for node in self.nodes.values() for a in (*node.addresses, *self._extra[node.name])}
        for node_name, addresses in pods:
            own = tuple(address for address in addresses if address not in taken)
            taken.update(own)
            if own:
                wanted[own[0]] = node_name, own
        for address in ends:
            home = self._node_of(address)
            if home and address not in taken:
                wanted[address] = home, (address,)
        return wanted

    def _node_of(self, address: str) -> str | None:
        """The node in whose pod range an address lies."""
        parsed = ipaddress.ip_address(address)
        for node in self.nodes.values():
            if any(parsed in ipaddress.ip_network(cidr) for cidr in node.pod_cidrs):
                return node.name
        return None


def _node_addresses(objects: Sequence[dict[str, Any]], node: str) -> set[str]:
    found = [item for item in objects if item["kind"] == "Node" and item["metadata"]["name"] == node]
    listed = found[0].get("status", {}).get("addresses", []) if found else []
    reporting = [o for o in objects if o["kind"] == "Pod" and o["spec"].get("nodeName") == node]
    reported = {str(address) for pod in reporting for address in host_addresses_of(pod)}
    return {entry["address"] for entry in listed if entry["type"] != "Hostname"} | reported


def _pods(objects: Sequence[dict[str, Any]]) -> list[tuple[str, tuple[str, ...]]]:
    """(node, addresses) of the pods that run, the newest first: of two with one address it has it."""
    running = [
        item
        for item in objects
        if item["kind"] == "Pod"
        and not item["spec"].get("hostNetwork")
        and item.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        and item["spec"].get("nodeName")
    ]
    running.sort(key=lambda item: str(item["metadata"].get("creationTimestamp", "")), reverse=True)
    return [
        (item["spec"]["nodeName"], tuple(e["ip"] for e in item.get("status", {}).get("podIPs", [])))
        for item in running
    ]
