# SPDX-License-Identifier: Apache-2.0
"""Prefixes, less what is excepted, hold exactly the addresses that they should."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wildcard_operator.model.net import V4, Prefix, parse_address, parse_prefix

BASE = 0x0A000000


def small_prefixes() -> st.SearchStrategy[Prefix]:
    """Prefixes within 10.0.0.0/24, small enough to list their addresses."""
    return st.integers(24, 32).flatmap(
        lambda length: st.integers(0, (1 << (length - 24)) - 1).map(
            lambda place: Prefix(V4, BASE | place << (32 - length), length)
        )
    )


def addresses(prefix: Prefix) -> set[int]:
    return set(range(prefix.value, prefix.value + (1 << (32 - prefix.length))))


@settings(max_examples=300, deadline=None)
@given(small_prefixes(), st.lists(small_prefixes(), max_size=6))
def test_a_prefix_without_holes_holds_what_is_left(prefix: Prefix, holes: list[Prefix]) -> None:
    left = prefix.without(tuple(holes))

    held = [address for part in left for address in addresses(part)]
    assert len(held) == len(set(held))
    assert set(held) == addresses(prefix).difference(*(addresses(hole) for hole in holes))


@settings(max_examples=200, deadline=None)
@given(small_prefixes(), small_prefixes())
def test_one_prefix_contains_another_where_all_its_addresses_are_in_it(one: Prefix, other: Prefix) -> None:
    assert one.contains(other) == (addresses(other) <= addresses(one))


@pytest.mark.parametrize(
    ("text", "told", "host_bits"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", False),
        ("10.1.2.3/8", "10.0.0.0/8", True),
        ("0.0.0.0/0", "0.0.0.0/0", False),
        ("FD00::1/64", "fd00::/64", True),
    ],
)
def test_host_bits_are_masked_and_told(text: str, told: str, host_bits: bool) -> None:
    prefix, found = parse_prefix(text)

    assert (prefix.text, found) == (told, host_bits)


@pytest.mark.parametrize(
    "text", ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "::ffff:10.0.0.0/104", "", "a/8"]
)
def test_what_is_no_prefix_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_prefix(text)


def test_a_mapped_address_is_the_ipv4_address_that_it_maps() -> None:
    assert parse_address("::ffff:10.0.0.1") == parse_address("10.0.0.1")
