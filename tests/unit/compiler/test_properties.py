# SPDX-License-Identifier: Apache-2.0
"""The compiler against the naive evaluator and against itself, on random clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.canonical import canonical, told_apart
from support.naive import evaluate
from support.strategies import situations
from wildcard_operator.compiler.manifests import ManifestCompiler
from wildcard_operator.compiler.simulate import Simulator
from wildcard_operator.model.entries import NodeTables

if TYPE_CHECKING:
    from support.naive import End as NaiveEnd
    from support.strategies import Situation
    from wildcard_operator.compiler.simulate import End

NODE = "node-1"

History = list[list[Any]]


QUICK = settings(max_examples=100, deadline=None)
LONG = settings(max_examples=3_000, deadline=None)


def check_verdicts(situation: Situation) -> None:
    """The simulator's answers are the naive evaluator's."""
    objects, probes = situation
    simulator = Simulator(objects)
    for probe in probes:
        ours, naive = simulator.answer(probe), evaluate(objects, probe)

        assert ours.allowed == naive.allowed
        assert _told(ours.egress) == _naive_told(naive.egress)
        assert _told(ours.ingress) == _naive_told(naive.ingress)
        assert set(ours.depends_on) == set(naive.depends_on)


def _told(end: End) -> tuple[Any, ...]:
    by = end.by
    return end.allowed, end.reason, by and (by.kind, by.namespace, by.name, by.rule)


def _naive_told(end: NaiveEnd) -> tuple[Any, ...]:
    by = end.by
    return end.allowed, end.reason, by and (by.kind, by.namespace, by.name, by.rule)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """States of a cluster one after another: each keeps some objects of the one before."""
    pools = [draw(situations(probes=1))[0] for _ in range(2)]
    states = []
    for _ in range(draw(st.integers(1, 4))):
        state: dict[tuple[str, str, str], Any] = {}
        for item in [item for pool in draw(st.permutations(pools)) for item in pool]:
            if draw(st.booleans()):
                meta = item["metadata"]
                state[item["kind"], meta.get("namespace", ""), meta["name"]] = item
        states.append(list(state.values()))
    return states


def check_history(states: History) -> None:
    """At every state the tables are those of that state alone, and follow from the deltas."""
    compiler = ManifestCompiler(NODE)
    told = NodeTables()
    for state in states:
        compiler.replace(state)
        told = told.with_delta(compiler.node.delta())

        fresh = ManifestCompiler(NODE)
        fresh.replace(state)
        fresh.node.delta()
        assert told == compiler.node.tables()
        assert canonical(told) == canonical(fresh.node.tables())
        assert not compiler.node.delta()


def check_minimal(states: History) -> None:
    """No two classes, and no two scopes, are the same to the rules."""
    compiler = ManifestCompiler(NODE)
    for state in states:
        compiler.replace(state)
        compiler.node.delta()
    tables = compiler.node.tables()

    scopes = list(compiler.node.scopes().values())
    assert len(scopes) == len(set(scopes))
    keys = list(compiler.node.class_keys().values())
    assert len(keys) == len(set(keys))
    # A pod has no entries before it has an address, nor has a port's name that no pod here carries; what they
    # are made from tells peers from others all the same.
    addressed = any(pod.addresses for pod in tables.pods.values())
    if addressed and not any(_has_named_ingress_port(item) for item in states[-1]):
        matching = list(told_apart(tables).values())
        assert len(matching) == len(set(matching))


def _has_named_ingress_port(item: dict[str, Any]) -> bool:
    if item["kind"] != "NetworkPolicy":
        return False
    rules = item["spec"].get("ingress") or []
    return any(isinstance(port.get("port"), str) for rule in rules for port in rule.get("ports") or [])


@QUICK
@given(situations())
def test_the_simulator_says_what_the_naive_evaluator_says(situation: Situation) -> None:
    check_verdicts(situation)


@QUICK
@given(histories())
def test_any_history_comes_to_the_same_as_its_last_state_alone(states: History) -> None:
    check_history(states)


@QUICK
@given(histories())
def test_no_two_classes_and_no_two_scopes_are_the_same_to_the_rules(states: History) -> None:
    check_minimal(states)


@pytest.mark.long
@pytest.mark.timeout(3600)
@LONG
@given(situations())
def test_the_simulator_says_what_the_naive_evaluator_says_of_thousands(situation: Situation) -> None:
    check_verdicts(situation)


@pytest.mark.long
@pytest.mark.timeout(3600)
@LONG
@given(histories())
def test_thousands_of_histories_come_to_the_same_as_their_last_state_alone(states: History) -> None:
    check_history(states)
    check_minimal(states)
