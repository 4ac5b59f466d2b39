# SPDX-License-Identifier: Apache-2.0
"""Ranks sort as names do, and a new name seldom changes another's."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from wildcard_operator.compiler.ranks import RANK_BITS, RankList

NAMES = st.tuples(st.text("ab", max_size=4), st.just(""), st.just(0))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(NAMES, unique=True, max_size=6)), max_size=12))
def test_ranks_sort_as_names_do(steps: list[tuple[bool, list[tuple[str, str, int]]]]) -> None:
    ranks, there = RankList(), set[tuple[str, str, int]]()
    for add, names in steps:
        chosen = [name for name in names if (name in there) != add]
        (ranks.add if add else ranks.remove)(chosen)
        there = there | set(chosen) if add else there - set(chosen)

        numbers = [ranks[name] for name in sorted(there)]
        assert numbers == sorted(set(numbers))
        assert all(0 < number < 1 << RANK_BITS for number in numbers)


def test_names_that_come_in_order_renumber_nobody() -> None:
    ranks = RankList()
    ranks.add([("policy-00000", "", 0)])

    assert not any(ranks.add([(f"policy-{number:05}", "", 0)]) for number in range(1, 10_000))


def test_a_list_without_room_is_spread_anew_and_stays_sorted() -> None:
    ranks = RankList()
    ranks.add([("a", "", 0), ("z", "", 0)])
    renumbered = [ranks.add([("b" * length, "", 0)]) for length in range(1, 40)]

    assert any(renumbered)
    numbers = [ranks[name, "", 0] for name in ["a", *("b" * length for length in range(1, 40)), "z"]]
    assert numbers == sorted(set(numbers))
