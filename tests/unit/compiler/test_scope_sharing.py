# SPDX-License-Identifier: Apache-2.0
"""Scopes share what they have in common, however many policies that is and however they part and join."""

from __future__ import annotations

from typing import Any, Final

from support.canonical import canonical
from wildcard_operator.compiler.events import PodSet, RuleSetRemoved, RuleSetSet
from wildcard_operator.compiler.network_policies import network_policy
from wildcard_operator.compiler.node import NodeCompiler
from wildcard_operator.model.addresssets import NamedPort
from wildcard_operator.model.entries import NodeTables
from wildcard_operator.model.net import TCP, parse_address
from wildcard_operator.model.objects import Pod

NODE: Final = "node-1"
MANY: Final = 1_100
PODS: Final = {"a": 8080, "b": 8080, "c": 9090}

Events = dict[str, Any]


def pods() -> Events:
    return {
        app: PodSet(
            Pod(
                namespace="shop",
                name=app,
                uid=app,
                labels=(("app", app),),
                node=NODE,
                addresses=(parse_address(f"10.0.0.{place}"),),
                ports=(NamedPort("http", TCP, port),),
            )
        )
        for place, (app, port) in enumerate(PODS.items())
    }


def policy(name: str, port: int | str = 80, **labels: str) -> Events:
    spec = {
        "podSelector": {"matchLabels": labels},
        "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": port}]}],
    }
    raw = {"metadata": {"namespace": "shop", "name": name}, "spec": spec}
    return {name: RuleSetSet(name, network_policy(raw))}


def policies() -> Events:
    """Of all pods, some of them about a named port."""
    found: Events = {}
    for number in range(MANY):
        found |= policy(f"all-{number:04}", port="http" if number % 7 == 0 else 80)
    return found


def compiled(events: Events) -> NodeCompiler:
    compiler = NodeCompiler(NODE)
    for event in events.values():
        compiler.apply(event)
    compiler.delta()
    return compiler


def test_pods_that_part_and_join_have_what_they_would_have_from_scratch() -> None:
    state = pods() | policies()
    third = [name for place, name in enumerate(policies()) if place % 3 == 0]
    steps: list[Events] = [
        policy("only-a", app="a"),
        policy("only-b", app="b"),
        dict.fromkeys(third),
        policy("only-a", app="c"),
        policy("all-0001", app="a") | policy("all-0002", port="http", app="b"),
        {"only-b": None, **policy("all-0004", port=81)},
        policies(),
        {"only-a": None, "all-0007": None},
    ]
    compiler = NodeCompiler(NODE)
    told = NodeTables()
    for changed in [state, *steps]:
        for name, event in changed.items():
            compiler.apply(RuleSetRemoved(name) if event is None else event)
        state = {name: event for name, event in (state | changed).items() if event is not None}
        told = told.with_delta(compiler.delta())

        assert told == compiler.tables()
        assert canonical(told) == canonical(compiled(state).tables())
        assert not compiler.delta()


def test_a_policy_that_parts_pods_leaves_their_other_policies_as_they_were_worked_out() -> None:
    compiler = NodeCompiler(NODE)
    for event in (pods() | policies()).values():
        compiler.apply(event)
    known = {id(row) for part in compiler.delta().entries_added.parts for row in part.rows}

    compiler.apply(policy("only-a", app="a")["only-a"])
    delta = compiler.delta()

    assert not delta.entries_removed
    assert len(delta.entries_added) == MANY + 2
    news = [row for part in delta.entries_added.parts for row in part.rows if id(row) not in known]
    assert len(news) < MANY / 5, "its own, its default deny, and what asks for the pod's named ports"
