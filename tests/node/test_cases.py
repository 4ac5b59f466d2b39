# SPDX-License-Identifier: Apache-2.0
"""The truth about policies, over real sockets through the programs in the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.casecluster import CaseCluster
from support.cases import Case, case_files, load_file

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = [case for path in case_files() for case in load_file(path)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[CaseCluster]:
    with CaseCluster() as built:
        yield built


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file.removesuffix('.yaml')}: {case.name}")
def test_traffic_meets_the_fate_that_the_case_states(cluster: CaseCluster, case: Case) -> None:
    wrong = []
    for step in case.steps:
        cluster.go_to(step)
        wrong += [f"{step.name}: {answer}" for answer in cluster.wrong_answers(step)]

    assert wrong == []
