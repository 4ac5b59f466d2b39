# SPDX-License-Identifier: Apache-2.0
"""Defects of the proposed BPF_MAP_TYPE_WILDCARD, counting, lifetime (L) and interface (U): what is right.

What cannot occur here:

- L4: there are no callbacks; arrays go when the last descriptor, pin and program do, which the kernel counts.
- L5: programs do not write, so nothing is locked that an interrupting program could want.
- U1, U2: nothing is added to union bpf_attr, and the description is no copy of unbounded size.
- U5: the header uses no names of the kernel's: test_header.py compiles it with this kernel's types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from support.brute import BruteForce
from support.map_strategies import make_entries, make_packets
from support.maps import loaded, winners
from wildcard_operator.wildcardmap import Algorithm, Description, MapFull, WildcardMap

if TYPE_CHECKING:
    from pathlib import Path

ONE = Description.parse("match4")


def test_l1_a_deletion_makes_room_at_once() -> None:
    with WildcardMap.create(ONE, max_entries=2) as made:
        made.update((1,))
        made.update((2,))
        with pytest.raises(MapFull, match="the map holds at most 2 entries, 3 are wanted"):
            made.update((3,))
        made.delete((1,))
        made.update((3,))

        assert [entry.rule for entry in made] == [(2,), (3,)]


def test_l2_a_replacement_does_not_count() -> None:
    with WildcardMap.create(ONE, max_entries=2, value_size=1) as made:
        for value in range(5):
            made.update((1,), bytes([value]))
        made.update((2,), b"x")
        made.update((1,), b"y")

        assert len(made) == 2


def test_l3_the_count_is_exact_after_any_number_of_changes(bpffs: Path) -> None:
    pin = bpffs / "map"
    rng = np.random.default_rng(3)
    held: set[int] = set()
    with WildcardMap.create(ONE, max_entries=100, pin=pin) as made:
        for _ in range(200):
            with made.batch() as changes:
                for number in map(int, rng.integers(0, 100, 5)):
                    if number in held:
                        changes.delete((number,))
                    else:
                        changes.update((number,))
                    held ^= {number}
            assert len(made) == len(held)
    with WildcardMap.open(pin) as opened:
        assert len(opened) == opened.stats().entries == len(held)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_l6_fields_need_no_alignment(algorithm: Algorithm) -> None:
    rng = np.random.default_rng(6)
    description = Description.parse("match1,prefix8,range4,any1,prefix16,range8,match2,prefix2,range2")
    entries = make_entries(rng, description, 100)
    packets = make_packets(rng, description, entries, 1024)
    with loaded(description, entries, algorithm) as made:
        np.testing.assert_array_equal(
            winners(made, packets), BruteForce(description, entries).winners(packets)
        )


def test_u3_batches_iteration_and_replacement_are_there() -> None:
    with WildcardMap.create(ONE, max_entries=8) as made:
        with made.batch() as changes:
            for number in range(4):
                changes.update((number,), priority=9 - number)
        assert [entry.rule for entry in made] == [(3,), (2,), (1,), (0,)]

        with made.batch() as changes:
            changes.clear()
            changes.update((7,))
        assert [entry.rule for entry in made] == [(7,)]


def test_u4_the_default_algorithm_chooses_for_the_user() -> None:
    with WildcardMap.create(ONE, max_entries=4096) as made:
        assert made.algorithm is Algorithm.AUTO
        with made.batch() as changes:
            for number in range(4000):
                changes.update((number,))
        assert made.stats().longest_chain < 16
