# SPDX-License-Identifier: Apache-2.0
"""Broken objects in the folder of a running node: named with file and field, and no packet's fate changes
for it.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import pytest

from support.broken import Refusal, broken_files, load_broken
from support.casecluster import CaseCluster
from support.cases import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSALS = [refusal for path in broken_files() for refusal in load_broken(path)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[CaseCluster]:
    with CaseCluster() as built:
        yield built


@pytest.mark.parametrize("file", sorted({refusal.file for refusal in REFUSALS}))
def test_every_broken_object_is_named_with_its_file_and_field(cluster: CaseCluster, file: str) -> None:
    unnamed = []
    for refusal in (refusal for refusal in REFUSALS if refusal.file == file):
        for agent in cluster.agents:
            agent.manifests.write("healthy.yaml", *refusal.healthy)
            agent.apply(*refusal.broken, file="zz-broken.yaml")
            problems = agent.problems()
            if not (
                len(problems) == 1
                and problems[0].place == "zz-broken.yaml"
                and any(problems[0].message.startswith(f"{path}: ") for path in refusal.fields)
            ):
                unnamed.append((refusal.name, problems))

    assert unnamed == []
    _forget(cluster)


@pytest.mark.parametrize("file", sorted({refusal.file for refusal in REFUSALS}))
def test_the_objects_beside_a_broken_one_stay_in_force(cluster: CaseCluster, file: str) -> None:
    """One broken object of each kind of reason is enough here: the compiler's tests hold every one to it."""
    chosen = [refusal for refusal in REFUSALS if refusal.file == file]
    wrong = []
    for _, same in groupby(chosen, key=lambda refusal: refusal.fields):
        refusal: Refusal = next(same)
        step = Step(refusal.name, (*refusal.healthy, *refusal.broken), refusal.probes)
        cluster.go_to(Step(refusal.name, refusal.healthy, refusal.probes), told=step.objects)
        wrong += [f"{refusal.name}: {answer}" for answer in cluster.wrong_answers(step)]

    assert wrong == []
    _forget(cluster)


def _forget(cluster: CaseCluster) -> None:
    for agent in cluster.agents:
        for path in agent.manifests.folder.glob("*.yaml"):
            path.unlink()
        agent.settle()
