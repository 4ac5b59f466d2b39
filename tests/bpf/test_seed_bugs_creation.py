# SPDX-License-Identifier: Apache-2.0
"""Defects of the proposed BPF_MAP_TYPE_WILDCARD, creation (C) and pools (P): what is right instead.

What cannot occur here:

- C4: no count of fields stands beside their list. What a pin says of itself is compared with its arrays.
- P2: a product is itertools.product, which ends.
"""

from __future__ import annotations

import errno
import gc
import json
import os
from pathlib import Path

import numpy as np
import pytest

from support.bpfbuild import ROOT, compile_bpf
from wildcard_operator.wildcardmap import (
    ANY,
    Algorithm,
    Description,
    EntryExists,
    EntryNotFound,
    Field,
    InvalidArgument,
    Kind,
    MapBusy,
    MapFull,
    Pool,
    UpdateFlag,
    WildcardMap,
    bpfsys,
)
from wildcard_operator.wildcardmap.libbpf import BpfObject

FOUR = Description.parse("prefix4,range2")


def descriptors() -> int:
    gc.collect()  # what earlier tests left behind is not to close in between
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("text", ["prefix3", "range16", "ternary4", ",".join(["prefix16"] * 12)])
def test_c1_every_field_is_checked(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        WildcardMap.create(Description.parse(text), max_entries=8)

    assert caught.value.errno == errno.EINVAL


def test_c2_lengths_of_a_pool_are_bits() -> None:
    with WildcardMap.create(
        Description.parse("prefix4"), max_entries=8, algorithm="tm-static", pool=Pool.of_list([16])
    ) as made:
        made.update(((0x0A010000, 16),))

        assert made.match((0x0A01FFFF,)) is not None


def test_c3_a_product_has_at_most_16_lengths_a_field_and_none_for_other_kinds() -> None:
    with pytest.raises(InvalidArgument, match="at most 16 lengths a field, not 17"):
        Pool.of_product(range(17)).tables(FOUR)
    with pytest.raises(InvalidArgument, match="the key has 1 PREFIX fields, the pool has 2"):
        Pool.of_product([16], [8]).tables(FOUR)


def test_c5_a_key_has_the_size_of_its_fields() -> None:
    with WildcardMap.create(FOUR, max_entries=8) as made:
        for width in (0, 5, 7, 9, 16):
            with pytest.raises(InvalidArgument, match="elements have 6 bytes"):
                made.match_many(np.zeros((1, width), np.uint8))
        with pytest.raises(InvalidArgument, match="an element has 2 values"):
            made.match((1,))
        with pytest.raises(InvalidArgument, match="a rule has 2 items"):
            made.update((1,))


@pytest.mark.parametrize(
    ("entries", "number"), [(2**31 + 1, errno.E2BIG), (2**32, errno.E2BIG), (0, errno.EINVAL)]
)
def test_c6_a_capacity_that_cannot_be_is_refused(entries: int, number: int) -> None:
    before = descriptors()

    with pytest.raises(OSError, match="max_entries") as caught:
        WildcardMap.create(FOUR, max_entries=entries)

    assert caught.value.errno == number
    assert descriptors() == before


def test_c7_no_option_is_accepted_without_effect() -> None:
    for algorithm, pool in (("tm", Pool.of_list([16])), ("auto", Pool.of_list([16])), ("tm-static", None)):
        with pytest.raises(InvalidArgument, match="a pool goes with tm-static"):
            WildcardMap.create(FOUR, max_entries=8, algorithm=algorithm, pool=pool)
    with pytest.raises(InvalidArgument, match="'best' is not one of"):
        WildcardMap.create(FOUR, max_entries=8, algorithm="best")
    with WildcardMap.create(FOUR, max_entries=8) as made, pytest.raises(InvalidArgument) as caught:
        made.update((ANY, ANY), flags=4)  # type: ignore[arg-type] # what is not a flag is the test
    assert caught.value.field == "flags"


def test_c8_errors_are_those_of_the_kernel_s_own_maps() -> None:
    kinds = {InvalidArgument: "EINVAL", MapFull: "E2BIG", EntryExists: "EEXIST", EntryNotFound: "ENOENT"}

    for kind, name in {**kinds, MapBusy: "EBUSY"}.items():
        assert kind("why").errno == getattr(errno, name)
        assert isinstance(kind("why"), OSError)


def test_c9_a_map_of_other_fields_is_not_taken_for_this_one(bpffs: Path) -> None:
    pin = bpffs / "map"
    WildcardMap.create(FOUR, max_entries=8, pin=pin).close()

    # The same key size.
    for other in ("match4,range2", "prefix2,prefix4"):
        with pytest.raises(InvalidArgument, match="has the fields prefix4,range2, not"):
            WildcardMap.open(pin, expect=Description.parse(other))
    named = Description((Field("address", Kind.PREFIX, 4), Field("port", Kind.RANGE, 2)))
    WildcardMap.open(pin, expect=named).close()


def test_c10_a_reader_learns_the_fields(bpffs: Path) -> None:
    pin = bpffs / "map"
    description = Description((Field("address", Kind.PREFIX, 4), Field("port", Kind.RANGE, 2)))
    WildcardMap.create(description, max_entries=8, pin=pin).close()

    with WildcardMap.open(pin, write=False) as opened:
        assert opened.description == description


@pytest.mark.parametrize("other", ["range2,match1", "match2,match1", "range2"])
def test_c10_a_map_is_not_bound_to_a_program_that_declares_other_fields(tmp_path: Path, other: str) -> None:
    path = compile_bpf(ROOT / "tests" / "bpf" / "programs" / "every_count.bpf.c", tmp_path)
    with (
        BpfObject(path) as program,
        WildcardMap.create(Description.parse(other), max_entries=8, value_size=8) as made,
    ):
        if other == "range2,match1":
            made.bind(program, "m2")
        else:
            with pytest.raises(InvalidArgument, match="declares m2 with range2,match1 and 8 bytes of value"):
                made.bind(program, "m2")


def test_c10_a_pin_of_another_layout_is_refused(bpffs: Path) -> None:
    pin = bpffs / "map"
    WildcardMap.create(FOUR, max_entries=8, pin=pin).close()
    (pin / "about").unlink()
    descriptor = bpfsys.map_create(bpfsys.MapType.ARRAY, key_size=4, value_size=4096, max_entries=1)
    bpfsys.map_update(descriptor, bytes(4), json.dumps({"layout": 0}).encode().ljust(4096, b"\0"))
    bpfsys.pin(descriptor, pin / "about")
    os.close(descriptor)

    with pytest.raises(InvalidArgument, match="has another layout than"):
        WildcardMap.open(pin)


def test_p1_a_refused_pool_leaves_nothing_behind() -> None:
    before = descriptors()

    with pytest.raises(InvalidArgument, match="the lists of a pool have one length"):
        WildcardMap.create(
            Description.parse("prefix4,prefix4"),
            max_entries=8,
            algorithm="tm-static",
            pool=Pool.of_list([16, 8], [16]),
        )

    assert descriptors() == before


@pytest.mark.parametrize(
    "text", ["match1,prefix4,range2,prefix4", "range2,prefix4,prefix4", "prefix4,prefix4"]
)
def test_p3_a_product_is_complete_whatever_stands_before_its_fields(text: str) -> None:
    description = Description.parse(text)
    prefixes = [index for index, field in enumerate(description.fields) if field.kind is Kind.PREFIX]

    tables = Pool.of_product([24, 16], [32, 8, 0]).tables(description)

    made = {tuple(map(int, row)) for row in tables[:, prefixes]}
    assert made == {(24, 32), (24, 8), (24, 0), (16, 32), (16, 8), (16, 0)}
    assert tables.sum() == tables[:, prefixes].sum()


def test_p4_the_number_of_tables_has_a_limit() -> None:
    for fields in (5, 8):  # made in full, the second would take 32 GiB
        with pytest.raises(MapFull, match=f"the pool makes {16**fields} tables, 64 is the most"):
            Pool.of_product(*[range(16)] * fields).tables(Description.parse(",".join(["prefix4"] * fields)))
    with pytest.raises(MapFull, match="the pool makes 65 tables"):
        Pool.of_list([0] * 65).tables(FOUR)


def test_p5_an_empty_pool_is_refused() -> None:
    for pool in (Pool.of_list([]), Pool.of_product([])):
        with pytest.raises(InvalidArgument, match="the pool has no length for this field"):
            pool.tables(FOUR)


def test_p6_lengths_beyond_the_field_are_refused() -> None:
    for length in (33, 200, -1):
        with pytest.raises(InvalidArgument, match=f"prefix length {length} does not fit: 0 to 32"):
            Pool.of_list([length]).tables(FOUR)


def test_p7_the_order_of_a_pool_does_not_matter() -> None:
    stats = []
    for lengths in ([0, 32], [32, 0]):
        with WildcardMap.create(
            Description.parse("prefix4"), max_entries=512, algorithm="tm-static", pool=Pool.of_list(lengths)
        ) as made:
            with made.batch() as changes:
                for address in range(500):
                    changes.update((0x0A000000 + address,))
            stats.append((made.stats().tables, made.stats().longest_chain))

    assert [tables for tables, _ in stats] == [1, 1]
    assert all(longest < 16 for _, longest in stats)


def test_p8_a_rule_that_fits_no_table_of_the_pool_is_found_all_the_same() -> None:
    with WildcardMap.create(
        Description.parse("prefix4"), max_entries=8, algorithm="tm-static", pool=Pool.of_list([16, 24])
    ) as made:
        made.update((ANY,), priority=1)
        made.update(((0x0A000000, 24),))

        found = made.match((0x0B000000,))

        assert found is not None
        assert found.rule == ((0, 0),)
        assert made.algorithm is Algorithm.STATIC_TUPLE_MERGE
        assert UpdateFlag.ANY == 0
