# SPDX-License-Identifier: Apache-2.0
"""Class prefixes stand for exactly the classes that they should, whichever classes come and go."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from wildcard_operator.compiler.classes import Covers, Numbers
from wildcard_operator.model.entries import POD_CLASS_BIT

KEYS = st.frozensets(st.integers(1, 6), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=40))
def test_a_cover_holds_its_members_and_no_other_living_class(
    steps: list[tuple[bool, frozenset[int]]],
) -> None:
    numbers, covers = Numbers(), Covers()
    living: dict[frozenset[int], int] = {}
    for lives, key in steps:
        if lives and key not in living:
            living[key] = numbers.take(frozenset(member for member in key if member < 3))
            covers.born(living[key], key)
        elif not lives and key in living:
            number = living.pop(key)
            covers.died(number, key)
            numbers.give_back(number)
        covers.refresh()

        assert len(set(living.values())) == len(living)
        assert all(number & POD_CLASS_BIT for number in living.values())
        for member in range(1, 7):
            held = {number for number in living.values() if _in_one_of(number, covers.cover(member))}
            assert held == {number for key, number in living.items() if member in key}


def _in_one_of(number: int, prefixes: tuple[tuple[int, int], ...]) -> bool:
    return sum((number ^ value) >> (32 - length) == 0 for value, length in prefixes) == 1


def test_a_member_of_all_classes_is_one_prefix() -> None:
    numbers, covers = Numbers(), Covers()
    for other in range(2, 50):
        covers.born(numbers.take(frozenset({1})), frozenset({1, other}))
    covers.refresh()

    assert len(covers.cover(1)) == 1
    assert all(len(covers.cover(other)) == 1 for other in range(2, 50))
