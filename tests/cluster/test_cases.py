# SPDX-License-Identifier: Apache-2.0
"""The truth about policies, through the API server: the same situations, the same truth tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.apicluster import ApiCluster
from support.cases import Case, case_files, load_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.controlplane import ControlPlane
    from support.operators import OperatorProcess

CASES = [case for path in case_files() for case in load_file(path)]


@pytest.fixture(scope="module")
def cluster(installed: ControlPlane, operator: OperatorProcess) -> Iterator[ApiCluster]:
    with ApiCluster(installed, operator) as built:
        yield built


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file.removesuffix('.yaml')}: {case.name}")
def test_traffic_meets_the_fate_that_the_case_states(cluster: ApiCluster, case: Case) -> None:
    wrong = []
    for step in case.steps:
        cluster.go_to(step)
        wrong += [f"{step.name}: {answer}" for answer in cluster.wrong_answers(step)]

    assert wrong == []
