# SPDX-License-Identifier: Apache-2.0
"""A broken object is refused by name, field and remedy, and every object beside it is taken as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.broken import Refusal, broken_files, load_broken
from support.cases import key_of
from wildcard_operator.compiler.manifests import Manifests
from wildcard_operator.compiler.simulate import Simulator

if TYPE_CHECKING:
    from pathlib import Path

    from wildcard_operator.model.errors import RefusedError

REFUSALS = [
    pytest.param(refusal, id=f"{refusal.file.removesuffix('.yaml')}: {refusal.name}")
    for path in broken_files()
    for refusal in load_broken(path)
]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_broken_object_alone_is_refused(refusal: Refusal) -> None:
    manifests = Manifests()
    manifests.replace([*refusal.healthy, *refusal.broken])

    (refused,) = manifests.refusals()
    assert (refused.ref.kind, refused.ref.namespace, refused.ref.name) == refusal.key
    assert refused.path in refusal.fields
    assert names_object_and_remedy(refused, refusal)
    assert refused.reason


def names_object_and_remedy(refused: RefusedError, refusal: Refusal) -> bool:
    told = str(refused)
    return all(word in told for word in (*refusal.key, refused.path, *refusal.mentions))


@pytest.mark.parametrize("refusal", REFUSALS)
def test_healthy_objects_stay_in_force_beside_it(refusal: Refusal) -> None:
    simulator = Simulator([*refusal.healthy, *refusal.broken])

    wrong = [p.told() for p in refusal.probes if simulator.answer(p.query()).allowed != p.allowed]
    assert wrong == []


@pytest.mark.parametrize("refusal", REFUSALS)
def test_object_is_taken_once_it_is_mended(refusal: Refusal) -> None:
    manifests = Manifests()
    manifests.replace([*refusal.healthy, *refusal.broken])
    manifests.replace([*refusal.healthy, refusal.base or refusal.broken[0]])

    assert manifests.refusals() == []


@pytest.mark.parametrize("path", broken_files(), ids=lambda path: path.stem)
def test_all_broken_objects_at_once_are_refused_and_no_other(path: Path) -> None:
    refusals = [refusal for refusal in load_broken(path) if refusal.base is not None]
    broken = [
        {**refusal.broken[0], "metadata": {**refusal.broken[0]["metadata"], "name": f"broken-{number}"}}
        for number, refusal in enumerate(refusals)
    ]
    manifests = Manifests()
    manifests.replace([*broken, *refusals[0].healthy])

    assert {refused.ref.name for refused in manifests.refusals()} == {key_of(item)[2] for item in broken}
