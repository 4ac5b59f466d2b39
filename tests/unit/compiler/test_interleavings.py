# SPDX-License-Identifier: Apache-2.0
"""One change in the API reaches a node as several events, in any order, more than once, and late.

Whatever the order: what an end denies before and after is never allowed in between, and the end is the same.
What is late is an older state of one object: again before the newer one, or again after the object was
deleted, until the watch that brought it sees the deletion too. An older state after a newer one of a living
object doesn't come so far: the store of the watches leaves it out (`tests/unit/kube/test_reflector.py`).
"""

from __future__ import annotations

import copy
from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from support.canonical import canonical
from support.rule_strategies import LABELS, NAMESPACE_LABELS
from support.strategies import situations
from wildcard_operator.compiler.classifier import Classifier, Packet, Verdict
from wildcard_operator.compiler.events import (
    AddressSetRemoved,
    AddressSetSet,
    NamespaceRemoved,
    NamespaceSet,
    NodeRemoved,
    NodeSet,
    PodRemoved,
    PodSet,
    Routes,
    RuleSetRemoved,
    RuleSetSet,
)
from wildcard_operator.compiler.manifests import Manifests, of_node
from wildcard_operator.compiler.node import NodeCompiler
from wildcard_operator.model.net import TCP, UDP, Address, Direction

if TYPE_CHECKING:
    from random import Random

    from wildcard_operator.compiler.events import Event

NODE = "node-1"
_REMOVALS: Final = (PodRemoved, NamespaceRemoved, NodeRemoved, RuleSetRemoved, AddressSetRemoved)
Object = dict[str, Any]


@st.composite
def changes(draw: st.DrawFn) -> tuple[list[Object], list[Object]]:
    """A cluster before and after one change: of labels, of a policy, or of who has an address."""
    before = draw(situations(probes=1))[0]
    kind = draw(st.sampled_from(("Pod", "Namespace", "NetworkPolicy", "handover")))
    after = copy.deepcopy(before)
    if kind == "handover":
        return before, _hand_over(draw, after)
    chosen = draw(st.sampled_from([item for item in after if item["kind"] == kind]))
    if kind == "NetworkPolicy":
        other = draw(st.sampled_from([item for item in before if item["kind"] == kind]))
        chosen["spec"] = copy.deepcopy(other["spec"])
    else:
        labels = LABELS if kind == "Pod" else NAMESPACE_LABELS
        chosen["metadata"]["labels"] = {
            key: draw(st.sampled_from(values)) for key, values in labels.items() if draw(st.booleans())
        }
    return before, after


def _hand_over(draw: st.DrawFn, objects: list[Object]) -> list[Object]:
    """A pod goes, and a new one of other labels gets its addresses, which no third one claims.

    If one did, it would have them after the first pod has gone: a state of its own between the two.
    """
    pods = [item for item in objects if item["kind"] == "Pod"]
    claims = Counter(entry["ip"] for pod in pods for entry in pod["status"]["podIPs"])
    alone = [pod for pod in pods if all(claims[entry["ip"]] == 1 for entry in pod["status"]["podIPs"])]
    assume(alone)
    pod = draw(st.sampled_from(alone))
    heir = copy.deepcopy(pod)
    heir["metadata"] |= {"name": "heir", "creationTimestamp": "2027-01-01T00:00:00Z"}
    heir["metadata"]["labels"] = {key: draw(st.sampled_from(values)) for key, values in LABELS.items()}
    return [item for item in objects if item is not pod] + [heir]


Change = tuple[list[Object], list[Object]]


def check(change: Change, dice: Random) -> None:
    """Bring a node from one state to the other, and look at every step."""
    manifests = Manifests()
    first = list(of_node(NODE, manifests.replace(change[0])))
    then = list(of_node(NODE, manifests.replace(change[1])))
    fresh = NodeCompiler(NODE)
    _apply(fresh, list(of_node(NODE, Manifests().replace(change[1]))))
    compiler = NodeCompiler(NODE)
    _apply(compiler, first)
    _apply(compiler, [Routes(_addresses(first))])
    packets = _packets(_addresses(first + then))
    old, new = _allowed(compiler, packets), _allowed(fresh, packets)

    for event in _delivered(first, then, dice):
        _apply(compiler, [event])
        assert _allowed(compiler, packets) <= old | new

    _apply(compiler, [Routes(frozenset())])
    assert canonical(compiler.tables()) == canonical(fresh.tables())


@settings(max_examples=100, deadline=None)
@given(changes(), st.randoms(use_true_random=False))
def test_no_order_of_events_allows_what_both_states_deny(change: Change, dice: Random) -> None:
    check(change, dice)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(max_examples=3_000, deadline=None)
@given(changes(), st.randoms(use_true_random=False))
def test_no_order_of_events_allows_what_both_states_deny_in_thousands_of_changes(
    change: Change, dice: Random
) -> None:
    check(change, dice)


def _delivered(first: list[Event], then: list[Event], dice: Random) -> list[Event]:
    """The events of a change as several watches may bring them: those of one object in their order."""
    before = {_subject(event): event for event in first}
    lines = []
    for event in then:
        older = before.get(_subject(event))
        line = [event] * dice.choice((1, 2))
        if older is not None:
            line = [older] * dice.choice((0, 1)) + line
            if isinstance(event, _REMOVALS):
                line += [older, event] * dice.choice((0, 1))
        lines.append(line)
    places = [place for place, line in enumerate(lines) for _ in line]
    dice.shuffle(places)
    coming = [iter(line) for line in lines]
    return [next(coming[place]) for place in places]


def _subject(event: Event) -> tuple[str, ...]:
    """The object that an event speaks of."""
    match event:
        case PodSet(pod):
            return "pod", pod.namespace, pod.name
        case PodRemoved(namespace, name):
            return "pod", namespace, name
        case NamespaceSet(namespace):
            return "namespace", namespace.name
        case NamespaceRemoved(name):
            return "namespace", name
        case NodeSet(node):
            return "node", node.name
        case NodeRemoved(name):
            return "node", name
        case RuleSetSet(name) | RuleSetRemoved(name):
            return "rule set", name
        case AddressSetSet(name) | AddressSetRemoved(name):
            return "address set", name
        case _:
            raise AssertionError(event)


def _apply(compiler: NodeCompiler, events: list[Event]) -> None:
    for event in events:
        compiler.apply(event)
    compiler.delta()


def _addresses(events: list[Event]) -> frozenset[Address]:
    return frozenset(address for e in events if isinstance(e, PodSet) for address in e.pod.addresses)


def _packets(addresses: frozenset[Address]) -> list[Packet]:
    return [
        Packet(source, destination, protocol, 1024, port, 2)
        for source, destination in product(sorted(addresses), repeat=2)
        if source != destination and source.family == destination.family
        for protocol, port in ((TCP, 80), (TCP, 81), (UDP, 53))
    ]


def _allowed(compiler: NodeCompiler, packets: list[Packet]) -> set[tuple[Packet, Direction]]:
    """The packets that each end allows, as far as it lies on this node."""
    classifier = Classifier(compiler.tables())
    found = set()
    for packet, direction in product(packets, Direction):
        verdict = Verdict()
        if not classifier.filters(packet, direction, verdict):
            classifier.policies(packet, direction, verdict)
        if verdict.allowed:
            found.add((packet, direction))
    return found
