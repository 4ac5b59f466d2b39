# SPDX-License-Identifier: Apache-2.0
"""Enforcement outlives the agent, whatever becomes of it, and a new one takes up where the old one was."""

from __future__ import annotations

import random
import select
import shutil
import signal
import socket
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from support.agents import AgentProcess, LocalAgent, Manifests, total
from support.bpffs import mounted_bpffs
from support.objects import pod_object, policy
from support.reach import datagram_arrives
from support.streams import Stream
from support.topology import Fabric
from support.waiting import wait_until
from wildcard_operator.cli.agent import clean_up
from wildcard_operator.datapath.abi import POLICY_OBJECT, abi
from wildcard_operator.datapath.links import HOOKS
from wildcard_operator.datapath.maps import NodeMaps
from wildcard_operator.datapath.pins import FOLDER, Pins
from wildcard_operator.datapath.programs import Control, Programs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.topology import Node, Pod

PORTS = (7001, 7002)
ALLOW = {
    port: policy("which", "b", ingress=[{"ports": [{"protocol": "UDP", "port": port}]}]) for port in PORTS
}


class World:
    """A routed node with pods a, b and c, a folder of manifests and a bpffs. Use it as a context manager."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            fabric = stack.enter_context(Fabric())
            self.node: Node = fabric.add_node("node-1")
            for number, name in enumerate("abc", start=11):
                self.node.add_pod(name, f"10.244.1.{number}")
            self.manifests = Manifests(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            self.bpffs = stack.enter_context(mounted_bpffs())
            self.manifests.write("pods.yaml", *(pod_object(p, "node-1") for p in self.node.pods.values()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def agent(self) -> AgentProcess:
        """An agent process of this node; not started."""
        return AgentProcess(self.node, self.manifests.folder, self.bpffs)

    def reaches(self, port: int) -> bool:
        """Whether a datagram of pod a gets to this port of pod b."""
        return datagram_arrives(self.node.pods["a"], random.randint(10000, 60000), self.node.pods["b"], port)


@pytest.fixture
def world() -> Iterator[World]:
    with World() as built:
        yield built


class Watch:
    """Datagrams from pod a to pod b without pause, to a port that no policy allows and one that all do.

    `leaks` counts those that arrived at the first, `losses` those that did not at the second.
    """

    NEVER, ALWAYS = 7009, 7008

    def __init__(self, sender: Pod, receiver: Pod) -> None:
        self._sockets = {}
        for port in (self.NEVER, self.ALWAYS):
            with receiver.netns.entered():
                made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind((receiver.address(4), port))
            made.setblocking(False)
            self._sockets[port] = made
        with sender.netns.entered():
            self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._target = receiver.address(4)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = self.leaks = self.losses = 0

    def _run(self) -> None:
        while not self._stop.is_set():
            for port in self._sockets:
                self._sender.sendto(b"x", (self._target, port))
            self.sent += 1
            self.losses += not self._arrived(self.ALWAYS, seconds=2)
            self.leaks += self._arrived(self.NEVER, seconds=0)
            time.sleep(0.001)

    def _arrived(self, port: int, seconds: float) -> bool:
        """Delivery between namespaces is synchronous, unless the kernel puts it off on a busy machine."""
        made = self._sockets[port]
        return bool(select.select([made], [], [], seconds)[0]) and made.recv(10) == b"x"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sender.close()
        for made in self._sockets.values():
            made.close()


def _policies(port: int) -> tuple[dict[str, object], ...]:
    ports = [{"protocol": "UDP", "port": Watch.ALWAYS}, {"protocol": "UDP", "port": port}]
    return (policy("which", "b", ingress=[{"ports": ports}]),)


def test_a_stopped_agent_leaves_enforcement_in_place(world: World) -> None:
    world.manifests.write("policy.yaml", ALLOW[PORTS[0]])
    with world.agent() as agent:
        agent.wait_for_commits(1)
        agent.stop(signal.SIGTERM)

    assert world.reaches(PORTS[0])
    assert not world.reaches(PORTS[1])


def test_a_new_agent_goes_on_counting_and_takes_up_what_changed_meanwhile(world: World) -> None:
    world.manifests.write("policy.yaml", ALLOW[PORTS[0]])
    with world.agent() as agent:
        agent.wait_for_commits(1)
        assert world.reaches(PORTS[0])
        before = agent.wait_for_commits(1)
    assert world.reaches(PORTS[0])
    world.manifests.write("more.yaml", policy("other", "c"))
    with world.agent() as agent:
        after = agent.wait_for_commits(1)

    name = "wildcard_rule_packets_total"
    assert total(after, name, policy="which") == total(before, name, policy="which") + 1
    assert total(after, name, kind="DefaultDeny", action="Drop") == total(before, name, kind="DefaultDeny")


def test_an_open_connection_goes_on_without_its_agent_and_with_the_next(world: World) -> None:
    """Neither end may begin anything: what keeps it alive are replies."""
    both = ["Ingress", "Egress"]
    port = {"ports": [{"port": 5001}]}
    world.manifests.write("a.yaml", policy("client", "a", policyTypes=both, egress=[port]))
    world.manifests.write("b.yaml", policy("server", "b", policyTypes=both, ingress=[port]))
    a, b = (world.node.pods[name] for name in "ab")
    with world.agent() as agent:
        agent.wait_for_commits(1)
        download = Stream(a.netns, b.netns, b.address(4), 5001)
        try:
            assert download.flows()
            agent.stop(signal.SIGKILL)
            assert download.flows()
            agent.start()
            agent.wait_for_commits(1)
            assert download.flows()
        finally:
            download.close()


def _hammer(world: World, rounds: int, seed: int) -> None:
    """Kill the agent at any moment of its life, with a change of policy in between, under traffic."""
    chance = random.Random(seed)
    world.manifests.write("policy.yaml", *_policies(PORTS[0]))
    highest: dict[object, float] = {}
    with world.agent() as first:
        first.wait_for_commits(1)
    with Watch(world.node.pods["a"], world.node.pods["b"]) as watch:
        for number in range(rounds):
            agent = world.agent()
            agent.start()
            if chance.random() < 0.3:
                samples = agent.wait_for_commits(1)
                for key, value in samples.items():
                    if key[0] == "wildcard_rule_packets_total":
                        assert value >= highest.get(key, 0), f"{key} went back in round {number}"
                        highest[key] = value
            world.manifests.write("policy.yaml", *_policies(PORTS[number % 2]))
            time.sleep(chance.random() * 0.6)
            agent.stop(signal.SIGKILL)
    assert watch.sent > rounds
    assert (watch.leaks, watch.losses) == (0, 0)
    with world.agent() as agent:
        agent.wait_for_commits(1)
        last = PORTS[(rounds - 1) % 2]
        wait_until(lambda: world.reaches(last), 5, "the last policy is in force")
        assert not world.reaches(PORTS[rounds % 2])


def test_an_agent_killed_at_any_moment_does_no_harm(world: World) -> None:
    _hammer(world, 6, seed=1)


@pytest.mark.long
def test_an_agent_killed_a_hundred_times_does_no_harm(world: World) -> None:
    _hammer(world, 100, seed=2)


def test_another_build_of_the_programs_takes_over_without_a_packet_unjudged(world: World) -> None:
    with LocalAgent(world.node, bpffs=world.bpffs) as agent:
        agent.apply(*(pod_object(p, "node-1") for p in world.node.pods.values()), *_policies(PORTS[0]))
        pins = Pins(world.bpffs, abi().layout_version)
        (former,) = pins.slots()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        newer = Path(folder, "policy.bpf.o")
        shutil.copy(POLICY_OBJECT, newer)
        with newer.open("ab") as stream:
            stream.write(b"\0")  # the same programs, and another build by its hash
        stack.enter_context(world.node.netns.entered())
        maps = NodeMaps(pins)
        stack.callback(maps.close)
        control = Control(pins)
        stack.callback(control.close)
        with Watch(world.node.pods["a"], world.node.pods["b"]) as watch:
            for path in (newer, POLICY_OBJECT, newer):
                Programs(pins, control, maps.bind, maps.group.wait_for_readers, path).ensure()
                (slot,) = pins.slots()
                assert control.active == slot.bit
                assert {path.name for path in slot.path.iterdir()} == {hook.name for hook in HOOKS}
    assert slot.build != former.build
    assert watch.sent > 0
    assert (watch.leaks, watch.losses) == (0, 0)


def test_cleanup_removes_everything(world: World) -> None:
    world.manifests.write("policy.yaml", ALLOW[PORTS[0]])
    with world.agent() as agent:
        agent.wait_for_commits(1)
        agent.stop(signal.SIGTERM)
    assert not world.reaches(PORTS[1])
    with world.node.netns.entered():
        clean_up(world.bpffs)

    assert world.reaches(PORTS[1])
    assert not (world.bpffs / FOLDER).exists()
    assert "wildcard" not in world.node.netns.run("nft", "list", "ruleset")


def test_a_second_agent_on_a_node_is_refused(world: World) -> None:
    with world.agent() as agent:
        agent.wait_for_commits(1)
        with AgentProcess(world.node, world.manifests.folder, world.bpffs, port=9101) as second:
            assert second.wait(60) != 0
            assert "another agent" in second.stop()
