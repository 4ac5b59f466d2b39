# SPDX-License-Identifier: Apache-2.0
"""Defects of the proposed BPF_MAP_TYPE_WILDCARD, rules (S): what is right instead.

- S9: no value is overwritten where readers look: a commit writes the other image (test_atomicity.py).
"""

from __future__ import annotations

import numpy as np
import pytest

from support.map_strategies import make_entries, make_packets
from support.maps import loaded, winners
from wildcard_operator.wildcardmap import ANY, Algorithm, Description, InvalidArgument, WildcardMap

every_algorithm = pytest.mark.parametrize(
    "algorithm", [Algorithm.AUTO, Algorithm.BRUTE_FORCE, Algorithm.TUPLE_MERGE]
)


@pytest.mark.parametrize(
    ("size", "value", "length", "right"),
    [
        (4, 0x0A010203, 8, "0x0a000000/8"),
        (4, 1, 0, "0x00000000/0"),
        (16, 0xFD << 120 | 1, 64, "0xfd000000000000000000000000000000/64"),
        (16, 0xFD << 120 | 1, 65, "0xfd000000000000000000000000000000/65"),
    ],
)
def test_s1_host_bits_are_refused_and_the_right_prefix_is_named(
    size: int, value: int, length: int, right: str
) -> None:
    with WildcardMap.create(Description.parse(f"prefix{size}"), max_entries=8) as made:
        with pytest.raises(InvalidArgument) as caught:
            made.update(((value, length),))

        assert right in caught.value.strerror
        assert len(made) == 0


@pytest.mark.parametrize("length", [33, 40, 264, -1])
def test_s2_prefix_lengths_are_checked(length: int) -> None:
    with (
        WildcardMap.create(Description.parse("prefix4"), max_entries=8) as made,
        pytest.raises(InvalidArgument, match=f"prefix length {length} does not fit: 0 to 32"),
    ):
        made.update(((0x0A000000, length),))


@every_algorithm
def test_s3_all_kinds_stand_in_network_order(algorithm: Algorithm) -> None:
    description = Description.parse("match2,match4,match8,any2,range2,range4,range8,prefix2,prefix8")
    rule = (
        0x0102,
        0x01020304,
        0x0102030405060708,
        0x0506,
        0x0708,
        0x01020304,
        0x0102030405060708,
        0x0910,
        2**63,
    )
    packet = b"".join(
        value.to_bytes(field.size, "big") for field, value in zip(description.fields, rule, strict=True)
    )
    with WildcardMap.create(description, max_entries=8, algorithm=algorithm) as made:
        made.update(rule)

        assert made.match(rule) is not None
        assert made.match_many(np.frombuffer(packet, np.uint8)[None])["row"][0] != 0


def test_s4_a_range_whose_minimum_is_greater_is_refused() -> None:
    with WildcardMap.create(Description.parse("range2"), max_entries=8) as made:
        with pytest.raises(InvalidArgument, match="the range is empty: 443 is above 80"):
            made.update(((443, 80),))

        assert len(made) == 0


def test_s5_an_element_is_not_a_rule_nor_a_rule_an_element() -> None:
    with WildcardMap.create(Description.parse("prefix4,range2"), max_entries=8) as made:
        made.update(((0x0A000000, 8), (80, 90)))

        for rule in ((ANY, 80), ((0x0A000000, 8), 80), (0x0A000001, (80, 90))):
            with pytest.raises(InvalidArgument):
                made.match(rule)  # type: ignore[arg-type] # a rule in place of an element is the test
        with pytest.raises(InvalidArgument):
            made.update(b"\x0a\0\0\1\0\x50")  # type: ignore[arg-type] # and packed bytes in place of a rule
        # A rule made of values alone is the rule that matches just these.
        assert made.get((0x0A000001, 80)) is None
        assert len(made) == 1


@every_algorithm
def test_s6_a_miss_is_nothing(algorithm: Algorithm) -> None:
    with WildcardMap.create(Description.parse("prefix4,range2"), max_entries=8, algorithm=algorithm) as made:
        assert made.match((0, 0)) is None
        made.update(((0x0A000000, 8), (80, 90)))

        assert made.match((0x0A000000, 79)) is None
        assert made.match_many(np.array([[10, 0, 0, 0, 0, 91]], np.uint8))["row"].tolist() == [0]


@every_algorithm
def test_s7_the_lowest_priority_number_wins_and_is_part_of_the_name(algorithm: Algorithm) -> None:
    with WildcardMap.create(Description.parse("prefix4"), max_entries=8, algorithm=algorithm) as made:
        made.update((ANY,), priority=5, rule_id=1)
        made.update((0x0A000001,), priority=7, rule_id=2)
        assert made.match((0x0A000001,)).rule_id == 1  # type: ignore[union-attr] # None fails the test

        made.update((0x0A000001,), priority=3, rule_id=3)
        assert made.match((0x0A000001,)).rule_id == 3  # type: ignore[union-attr] # None fails the test
        assert len(made) == 3

        made.delete((0x0A000001,), priority=3)
        assert made.match((0x0A000001,)).rule_id == 1  # type: ignore[union-attr] # None fails the test


@every_algorithm
def test_s8_the_answer_depends_on_the_set_of_rules_only(algorithm: Algorithm) -> None:
    rng = np.random.default_rng(8)
    description = Description.parse("prefix4,range2,any1")
    entries = make_entries(rng, description, 80, priorities=1)
    packets = make_packets(rng, description, entries, 512)
    with loaded(description, entries, algorithm) as made:
        before = winners(made, packets)
        for index in rng.permutation(len(entries))[:40]:
            entry, value = entries[index], int(index).to_bytes(4, "little")
            made.delete(entry.rule, priority=entry.priority, order=entry.order)
            made.update(entry.rule, value, priority=entry.priority, order=entry.order, rule_id=int(index))

        np.testing.assert_array_equal(winners(made, packets), before)


def test_s10_a_match_tells_which_rule_it_was() -> None:
    with WildcardMap.create(Description.parse("prefix4"), max_entries=8, value_size=3) as made:
        made.update(((0x0A000000, 8),), b"abc", priority=4, order=2, rule_id=6)

        found = made.match((0x0A000001,))

        assert found is not None
        assert (found.rule, found.value) == (((0x0A000000, 8),), b"abc")
        assert (found.priority, found.order, found.rule_id, found.place >> 32) == (4, 2, 6, 4)
