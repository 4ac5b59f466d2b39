# SPDX-License-Identifier: Apache-2.0
"""What C and Python say of the arrays is the same, by the objects' BTF."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.bpfbuild import ROOT, compile_bpf
from wildcard_operator.wildcardmap import InvalidArgument, WildcardMap
from wildcard_operator.wildcardmap.btf import Btf
from wildcard_operator.wildcardmap.storage import (
    BUCKET_TYPE,
    HEAD_TYPE,
    TABLE_PLACES,
    WINDOW_TYPE,
    table_type,
)

if TYPE_CHECKING:
    import numpy as np

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_bpf(PROGRAMS / "every_count.bpf.c", tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def btf(path: Path) -> Btf:
    return Btf.of_object(path)


def offsets(dtype: np.dtype[np.void]) -> dict[str, int]:
    assert dtype.fields is not None
    return {name: int(field[1]) for name, field in dtype.fields.items()}


@pytest.mark.parametrize(
    ("struct", "dtype"),
    [("wildcard_head", HEAD_TYPE), ("wildcard_window", WINDOW_TYPE), ("wildcard_bucket", BUCKET_TYPE)],
)
def test_a_struct_lies_as_python_writes_it(btf: Btf, struct: str, dtype: np.dtype[np.void]) -> None:
    assert list(offsets(dtype).values()) == [member.offset for member in btf.members(struct)]
    assert dtype.itemsize == btf.size(struct)


def test_a_table_starts_as_python_writes_it(btf: Btf) -> None:
    ours = offsets(table_type(1))
    theirs = {member.name: member.offset for member in btf.members("wildcard_table")}

    assert list(ours.values())[: len(theirs)] == list(theirs.values())
    assert ours["mask"] == btf.size("wildcard_table")


def test_each_table_has_the_place_that_the_header_gives_it() -> None:
    layout = (ROOT / "bpf" / "wildcard" / "layout.h").read_text(encoding="utf-8")
    found = re.search(r"define WILDCARD_TABLE_PLACES (\w+)ULL", layout)

    assert found is not None
    assert TABLE_PLACES.tolist() == [(int(found[1], 16) << table) % 2**64 >> 58 for table in range(64)]
    assert len(set(TABLE_PLACES.tolist())) == 64


@pytest.mark.parametrize("count", range(1, 10))
def test_a_row_lies_as_python_writes_it(path: Path, btf: Btf, count: int) -> None:
    with WildcardMap.of_object(path, f"m{count}", max_entries=8) as made:
        ours = offsets(made.shape.row_type)
    theirs = {member.name: member.offset for member in btf.members(f"m{count}_row")}

    for name in ("place", "next", "id", "table", "order"):
        assert ours[name] == theirs[name]
    assert ours["user"] == theirs["value"]


def test_the_map_of_an_object_has_its_rows(path: Path) -> None:
    for count in range(1, 10):
        with WildcardMap.of_object(path, f"m{count}", max_entries=8) as made:
            assert len(made.description.fields) == count
            assert made.shape.value_size == 8


def test_an_object_without_the_map_is_refused(path: Path) -> None:
    with pytest.raises(InvalidArgument):
        WildcardMap.of_object(path, "m10", max_entries=8)
