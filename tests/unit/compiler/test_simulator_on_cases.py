# SPDX-License-Identifier: Apache-2.0
"""The simulator gives the answers that the cases state, decider and all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cases import case_files, load_file
from support.probes import Decider
from wildcard_operator.compiler.simulate import Simulator

if TYPE_CHECKING:
    from support.cases import Case, Step
    from support.probes import Decision, Probe
    from wildcard_operator.compiler.simulate import End

CASES = [case for path in case_files() for case in load_file(path)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}:{case.name}")
def test_the_simulator_answers_as_the_case_states(case: Case) -> None:
    wrong = [line for step in case.steps for line in _wrong_answers(step)]

    assert not wrong, "\n".join(wrong)


def _wrong_answers(step: Step) -> list[str]:
    simulator = Simulator(step.objects)
    assert not simulator.refusals
    return [line for probe in step.probes for line in _complaints(simulator, probe, step.name)]


def _complaints(simulator: Simulator, probe: Probe, step: str) -> list[str]:
    answer = simulator.answer(probe.query())
    complaints = []
    if answer.allowed != probe.allowed:
        complaints.append(f"{step}: {probe.told()}: allowed is {answer.allowed}, not {probe.allowed}")
    for name, stated, end in (
        ("egress", probe.egress, answer.egress),
        ("ingress", probe.ingress, answer.ingress),
    ):
        if stated is not None and _decision(end) != stated:
            complaints.append(f"{step}: {probe.told()}: {name} is decided by {_decision(end)}, not {stated}")
    return complaints


def _decision(end: End) -> Decision:
    if end.by is None:
        assert end.reason is not None
        return end.reason
    return Decider(end.by.kind, end.by.namespace, end.by.name, end.by.rule)
