# SPDX-License-Identifier: Apache-2.0
"""A node with three pods and an agent: the stage of most tests with packets."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.agents import LocalAgent
from support.objects import Object, pod_object
from support.topology import Cni, Fabric, Node, Pod

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Stage:
    """A node with pods a, b and c, and what its agent was told."""

    fabric: Fabric
    node: Node
    agent: LocalAgent

    @property
    def pods(self) -> dict[str, Pod]:
        """The pods by name."""
        return self.node.pods

    def apply(self, *objects: Object) -> None:
        """Let these be in force, beside the pods."""
        self.agent.manifests.write("policies.yaml", *objects)
        self.agent.settle()

    def add_pod(self, name: str, *addresses: str) -> Pod:
        """Start a pod and tell the agent."""
        pod = self.node.add_pod(name, *addresses)
        self.tell_pods()
        return pod

    def tell_pods(self) -> None:
        """Write the Pods as they are now."""
        self.agent.apply(*(pod_object(pod, self.node.name) for pod in self.pods.values()), file="pods.yaml")


@contextmanager
def built_stage(cni: Cni, established: str = "judge") -> Iterator[Stage]:
    """A stage whose pods are attached in this manner."""
    with Fabric() as fabric:
        node = fabric.add_node("node-1", cni)
        for number, name in enumerate("abc", start=11):
            node.add_pod(name, f"10.244.1.{number}", f"fd00:10:244:1::{number}")
        with LocalAgent(node, established=established) as agent:
            built = Stage(fabric, node, agent)
            built.tell_pods()
            yield built
