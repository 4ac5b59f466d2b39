# SPDX-License-Identifier: Apache-2.0
"""The broken objects are broken by one edit alone: what they are made from is valid and harms nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.broken import Refusal, broken_files, load_broken
from support.naive import evaluate
from support.strict import CaseError

if TYPE_CHECKING:
    from pathlib import Path

REFUSALS = [refusal for path in broken_files() for refusal in load_broken(path)]


@pytest.mark.parametrize("path", broken_files(), ids=lambda path: path.name)
def test_healthy_objects_mean_the_same_without_and_with_what_the_broken_are_made_from(path: Path) -> None:
    first = load_broken(path)[0]
    bases = [refusal.base for refusal in load_broken(path) if refusal.base is not None]
    for objects in (first.healthy, (*first.healthy, *_distinct(bases))):
        for probe in first.probes:
            assert evaluate(objects, probe.query()).allowed == probe.allowed, probe.told()


def _distinct(objects: list[dict[str, object]]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for item in objects:
        if item not in found:
            found.append(item)
    return found


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda r: f"{r.file}: {r.name}")
def test_broken_object_is_none_of_the_healthy(refusal: Refusal) -> None:
    assert all(item["metadata"]["name"] != refusal.key[2] for item in refusal.healthy)
    assert refusal.base is None or len(refusal.broken) == 1


BASE = """
cluster: nine-pods
truth: [{from: x/a, to: x/b, port: 80, allowed: true}]
groups:
- base: {apiVersion: v1, kind: Namespace, metadata: {name: n, labels: {a: b}}, list: [{name: i}]}
  refused:
"""


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{name: one, set: {metadata.labels.a: b}, field: f}", "changes nothing"),
        ('{name: one, set: {"spec.rules[0].name": b}, field: f}', "the object has no spec.rules[0].name"),
        ("{name: one, set: {kind: 1}}", "lacks field"),
        ("{name: one, field: f, put: {}}", "does not know put"),
    ],
)
def test_edit_that_makes_no_sense_is_refused(tmp_path: Path, entry: str, told: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(f"{BASE}  - {entry}", encoding="utf-8")
    with pytest.raises(CaseError) as refusal:
        load_broken(path)

    assert told in str(refusal.value)


def test_repeated_items_get_names_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(f"{BASE}  - {{name: one, repeat: {{list: 3}}, field: list}}", encoding="utf-8")
    (refusal,) = load_broken(path)

    assert refusal.broken[0]["list"] == [{"name": "i-0"}, {"name": "i-1"}, {"name": "i-2"}]
