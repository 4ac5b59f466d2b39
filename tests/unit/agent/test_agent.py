# SPDX-License-Identifier: Apache-2.0
"""The agent's loop between a source and a kernel, both of them fakes: what it does when either misbehaves."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from wildcard_operator.agent.agent import Agent, host_events
from wildcard_operator.agent.outlet import Silent
from wildcard_operator.compiler.events import Interface, InterfacesSet, PodSet, Routes, RuleSetSet, Synced
from wildcard_operator.compiler.network_policies import network_policy
from wildcard_operator.compiler.node import NodeCompiler
from wildcard_operator.datapath.errors import NodeCondition, Shortfall
from wildcard_operator.datapath.host import HostState, Link
from wildcard_operator.model.net import parse_address
from wildcard_operator.model.objects import Pod
from wildcard_operator.telemetry.metrics import AgentInstruments
from wildcard_operator.wildcardmap.errors import MapFull

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wildcard_operator.compiler.events import Event
    from wildcard_operator.model.entries import NodeDelta, NodeTables

POD = PodSet(Pod("x", "a", node="n", addresses=(parse_address("10.0.0.1"),)))


def policy(name: str, **spec: Any) -> Event:
    raw = {
        "kind": "NetworkPolicy",
        "metadata": {"namespace": "x", "name": name},
        "spec": {"podSelector": {}, **spec},
    }
    return RuleSetSet(name, network_policy(raw))


class FakeSource:
    """Gives out batches of events in their order."""

    def __init__(self, *batches: Sequence[Event], synced: bool = True) -> None:
        self.batches = deque(batches)
        self.is_synced = synced

    def fileno(self) -> int:
        return -1

    def poll(self) -> Sequence[Event]:
        return self.batches.popleft() if self.batches else []

    def synced(self) -> bool:
        return self.is_synced

    def problems(self) -> Sequence[Any]:
        return []

    def close(self) -> None:
        pass


class FakeKernel:
    """Applies tables and deltas as the real datapath does; refuses as many commits as it is told."""

    def __init__(self) -> None:
        self.host = self.seen = HostState()
        self.tables: NodeTables | None = None
        self.refusals = 0
        self.conditions: tuple[NodeCondition, ...] = ()
        self.secured = 0
        self.xdp_modes: dict[str, str] = {}

    def _refuse(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise MapFull("the map holds at most 4 entries, 5 are wanted")

    def look_at_host(self) -> HostState:
        return self.seen

    def start(self, tables: NodeTables, host: HostState) -> None:
        self._refuse()
        self.tables, self.host = tables, host

    def commit(self, delta: NodeDelta, host: HostState | None = None) -> None:
        self._refuse()
        assert self.tables is not None
        self.tables, self.host = self.tables.with_delta(delta), host or self.host

    def secure(self, *, disturbed: bool) -> tuple[NodeCondition, ...]:
        self.secured += 1
        return self.conditions


class Nothing:
    """Stands where a test does not look: descriptors that report nothing, readings that nobody reads."""

    def fileno(self) -> int:
        return -1

    def drain(self) -> None:
        pass

    def rules_changed(self, *_: object) -> None:
        pass

    def conditions_are(self, *_: object) -> None:
        pass

    def problems_are(self, *_: object) -> None:
        pass


def agent(source: FakeSource, kernel: FakeKernel) -> tuple[Agent, NodeCompiler, CollectorRegistry]:
    compiler, registry, nothing = NodeCompiler("n"), CollectorRegistry(), Nothing()
    made: Any = Agent(
        source, compiler, kernel, nothing, nothing, nothing, AgentInstruments(registry), Silent()
    )  # type: ignore[arg-type] # `Nothing` stands for several parts
    return made, compiler, registry


def turn(made: Agent) -> None:
    made.turn(host=False, tables=False)


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


def test_nothing_is_touched_before_the_source_is_in_sync(kernel: FakeKernel) -> None:
    source = FakeSource([POD], [policy("p"), Synced(None)], synced=False)
    made, _, _ = agent(source, kernel)
    turn(made)
    assert kernel.tables is None
    assert kernel.secured == 0
    assert not made.ready()

    source.is_synced = True
    turn(made)
    assert kernel.tables is not None
    assert len(kernel.tables.rows) == 1
    assert made.ready()


def test_a_change_is_one_delta_and_leads_to_what_the_compiler_has(kernel: FakeKernel) -> None:
    made, compiler, _ = agent(FakeSource([POD, Synced(None)], [policy("p", ingress=[{}])]), kernel)
    turn(made)
    turn(made)

    assert kernel.tables == compiler.tables()


def test_a_refused_commit_leaves_the_former_state_and_the_next_brings_the_whole(kernel: FakeKernel) -> None:
    made, compiler, registry = agent(
        FakeSource([POD, Synced(None)], [policy("p", ingress=[{}])], [policy("q")]), kernel
    )
    turn(made)
    former = kernel.tables
    kernel.refusals = 1
    turn(made)
    assert kernel.tables == former
    assert registry.get_sample_value("wildcard_program_errors_total", {"stage": "commit"}) == 1

    turn(made)
    assert kernel.tables == compiler.tables()
    assert registry.get_sample_value("wildcard_commits_total") == 2


def test_what_could_not_be_done_is_tried_again(kernel: FakeKernel) -> None:
    made, _, _ = agent(FakeSource([POD, Synced(None)]), kernel)
    kernel.conditions = (NodeCondition(Shortfall.OTHER_XDP_PROGRAM, "eth0", "somebody else's"),)
    turn(made)
    turn(made)
    assert kernel.secured == 2

    kernel.conditions = ()
    turn(made)
    turn(made)
    assert kernel.secured == 3


def test_news_of_the_host_that_change_nothing_commit_nothing(kernel: FakeKernel) -> None:
    made, _, registry = agent(FakeSource([POD, Synced(None)]), kernel)
    turn(made)
    made.turn(host=True, tables=False)
    assert (registry.get_sample_value("wildcard_commits_total"), kernel.secured) == (1, 2)

    kernel.seen = HostState(links={2: Link(2, "eth0")})
    made.turn(host=True, tables=False)
    assert (registry.get_sample_value("wildcard_commits_total"), kernel.host) == (2, kernel.seen)


def test_interfaces_of_pods_are_not_offered_to_filters_of_the_node() -> None:
    host = HostState(
        links={
            1: Link(1, "lo"),
            2: Link(2, "eth0", "veth"),
            3: Link(3, "pod", "veth"),
            4: Link(4, "port", "veth", 5),
        },
        routes={parse_address("10.0.0.1"): 3},
        behind={4: frozenset({parse_address("10.0.0.2")})},
        primary=frozenset({2}),
    )

    routes, interfaces = host_events(host)
    assert interfaces == InterfacesSet(frozenset({Interface("lo"), Interface("eth0", primary=True)}))
    assert routes == Routes(frozenset({parse_address("10.0.0.1"), parse_address("10.0.0.2")}))
