# SPDX-License-Identifier: Apache-2.0
"""The naive evaluator gives every answer of every case, and the cases cover what they promise."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from support.cases import Case, Change, Step, case_files, change_between, key_of, load_file
from support.naive import Answer, End, evaluate
from support.plain_objects import addresses_of_node
from support.strategies import Situation, situations

if TYPE_CHECKING:
    from support.probes import Decision, Probe

CASES = [case for path in case_files() for case in load_file(path)]
STEPS = [
    pytest.param(case, step, id=f"{case.file.removesuffix('.yaml')}: {case.name}: {step.name}")
    for case in CASES
    for step in case.steps
]


@pytest.mark.parametrize(("case", "step"), STEPS)
def test_naive_evaluator_gives_the_truth(case: Case, step: Step) -> None:
    wrong = [
        told for probe in step.probes if (told := difference(probe, evaluate(step.objects, probe.query())))
    ]

    assert not wrong, "\n".join(wrong)


def difference(probe: Probe, answer: Answer) -> str:
    """What of an answer is not as the case says; empty where all is."""
    if answer.depends_on:
        return f"{probe.told()}: leaves {', '.join(sorted(answer.depends_on))} open, which a rule asks for"
    if answer.allowed != probe.allowed:
        return f"{probe.told()}: should be allowed={probe.allowed}: {answer}"
    for name, wanted, end in (
        ("egress", probe.egress, answer.egress),
        ("ingress", probe.ingress, answer.ingress),
    ):
        if wanted is not None and wanted != decision(end):
            return f"{probe.told()}: {name} should be decided by {wanted}, not by {decision(end)}"
    return ""


def decision(end: End) -> Decision:
    """An end's answer in the form of a case."""
    found = end.by or end.reason
    assert found is not None
    return found


@settings(max_examples=50, deadline=None)
@given(situations())
def test_every_random_situation_has_an_answer_with_a_decision(situation: Situation) -> None:
    objects, probes = situation
    for probe in probes:
        answer = evaluate(objects, probe)

        assert answer.allowed == (answer.egress.allowed and answer.ingress.allowed)
        assert all((end.by is None) != (end.reason is None) for end in (answer.egress, answer.ingress))


def test_every_criterion_of_network_policy_has_a_case() -> None:
    assert {number for case in CASES for number in case.criteria} == set(range(1, 27))


def test_every_upstream_situation_is_rebuilt_once() -> None:
    rebuilt = sorted(name for case in CASES for name in case.upstream)

    assert rebuilt == sorted(set(rebuilt))
    assert Counter(name.partition("/")[0] for name in rebuilt) == {"tcp": 42, "udp": 3, "sctp": 3}


def test_states_differ_by_what_a_step_writes() -> None:
    case = next(case for case in CASES if case.name.startswith("an except in one policy takes nothing"))
    first, second, third = (step.objects for step in case.steps)

    assert [key_of(item) for item in change_between(first, second).applied] == [
        ("NetworkPolicy", "x", "to-b")
    ]
    assert change_between(first, second).deleted == ()
    assert change_between(second, third).deleted == (("NetworkPolicy", "x", "to-b"),)
    assert change_between(third, third) == Change((), ())


OUTSIDE = [ipaddress.ip_network(cidr) for cidr in ("198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")]


@pytest.mark.parametrize(("case", "step"), STEPS)
def test_every_address_can_be_built_in_a_topology_of_three_nodes(case: Case, step: Step) -> None:
    nodes = {item["metadata"]["name"]: item for item in step.objects if item["kind"] == "Node"}
    of_nodes = [address for node in nodes.values() for address in addresses_of_node(node)]
    pods = {key_of(item)[1:]: item for item in step.objects if item["kind"] == "Pod"}

    assert len(nodes) <= 3
    for end in {end for probe in step.probes for end in (probe.source, probe.destination)}:
        address = ipaddress.ip_address(end.address)
        if end.pod is None:
            assert address in of_nodes or any(address in network for network in OUTSIDE), end
            continue
        namespace, _, name = end.pod.partition("/")
        spec = pods[namespace, name]["spec"]
        if spec.get("hostNetwork"):
            assert address in addresses_of_node(nodes[spec["nodeName"]]), end
        else:
            ranges = nodes[spec["nodeName"]]["spec"]["podCIDRs"]
            assert any(address in ipaddress.ip_network(cidr) for cidr in ranges), end
