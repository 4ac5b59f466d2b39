# SPDX-License-Identifier: Apache-2.0
"""Three capabilities are enough for everything an agent does, and without one of them it says which."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.agents import AgentProcess, Manifests, total
from support.bpffs import mounted_bpffs
from support.objects import pod_object, policy, wildcard_filter
from support.reach import connects
from support.topology import Fabric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.topology import Node

NEEDED = ("bpf", "net_admin", "perfmon")


@pytest.fixture
def world() -> Iterator[tuple[Node, Manifests, Path]]:
    with Fabric() as fabric, ExitStack() as stack:
        node = fabric.add_node("node-1", "bridge")
        for number, name in enumerate("ab", start=11):
            node.add_pod(name, f"10.244.1.{number}")
        manifests = Manifests(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        manifests.write("pods.yaml", *(pod_object(pod, node.name) for pod in node.pods.values()))
        manifests.write("policy.yaml", policy("one-port", "b", ingress=[{"ports": [{"port": 80}]}]))
        rule = {"name": "no-telnet", "action": "Drop", "protocol": "TCP", "destinationPorts": [{"port": 23}]}
        target = {"nodes": {"interfaces": {"primary": True}}}
        manifests.write("filter.yaml", wildcard_filter("in", "Ingress", target, rule))
        yield node, manifests, stack.enter_context(mounted_bpffs())


def limited(*capabilities: str) -> tuple[str, ...]:
    """A command in front of another that leaves it these capabilities alone."""
    bounding = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    return "setpriv", "--inh-caps=-all", f"--bounding-set={bounding}", "--no-new-privs"


def test_three_capabilities_are_enough(world: tuple[Node, Manifests, Path]) -> None:
    node, manifests, bpffs = world
    a, b = node.pods["a"], node.pods["b"]
    with AgentProcess(node, manifests.folder, bpffs, before=limited(*NEEDED)) as agent:
        samples = agent.wait_for_commits(1)

        assert total(samples, "wildcard_node_condition") == 0
        assert connects(a.netns, b.netns, b.address(4), 80)
        assert not connects(a.netns, b.netns, b.address(4), 81)


@pytest.mark.parametrize("missing", NEEDED)
def test_a_missing_capability_is_named(world: tuple[Node, Manifests, Path], missing: str) -> None:
    node, manifests, bpffs = world
    left = [name for name in NEEDED if name != missing]

    with AgentProcess(node, manifests.folder, bpffs, before=limited(*left)) as agent:
        assert agent.wait(60) == 1
        assert f"CAP_{missing.upper()}" in agent.stop()
