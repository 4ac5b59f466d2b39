# SPDX-License-Identifier: Apache-2.0
"""Sets made to be slow: every answer is right, and the cost is printed (`pytest -rP` shows it)."""

from __future__ import annotations

import numpy as np
import pytest

from support.brute import BruteForce, Entry
from support.map_strategies import make_packets
from support.maps import loaded, winners
from wildcard_operator.wildcardmap import Benchmark, Description

PACKETS = 1024


def check(name: str, description: Description, entries: list[Entry]) -> None:
    """Compare all answers with brute force and print what a lookup costs."""
    rng = np.random.default_rng(1)
    packets = make_packets(rng, description, entries, PACKETS)
    with loaded(description, entries) as made:
        np.testing.assert_array_equal(
            winners(made, packets), BruteForce(description, entries).winners(packets)
        )
        seconds = min(made.time(Benchmark.INDEPENDENT, PACKETS, packets) for _ in range(3))
        print(f"{name}: {seconds * 1e9 / PACKETS:.0f} ns a lookup, {made.stats()}")


@pytest.mark.parametrize("ascending", [True, False], ids=["narrow first", "wide first"])
def test_ten_thousand_overlapping_ranges_under_one_key(ascending: bool) -> None:
    description = Description.parse("match4,range2,range2")
    rng = np.random.default_rng(2)
    widths = np.sort(rng.integers(1, 30_000, 10_000))
    widths = widths if ascending else widths[::-1]
    starts, ends = (rng.integers(0, most, 10_000).tolist() for most in (30_000, 32_000))
    entries = [
        Entry((1, (start, start + int(width)), (end, 65_535 - end)), priority)
        for priority, (width, start, end) in enumerate(zip(widths, starts, ends, strict=True))
    ]
    check("overlapping ranges", description, entries)


def test_all_prefix_lengths_of_both_addresses_at_once() -> None:
    description = Description.parse("prefix4,prefix4")
    rng = np.random.default_rng(3)
    entries = []
    for priority in range(5000):
        items = []
        for _ in range(2):
            length = int(rng.integers(0, 33))
            address = 0x0A000000 | int(rng.integers(0, 2**12)) << int(rng.integers(0, 12))
            items.append((address >> 32 - length << 32 - length, length))
        entries.append(Entry(tuple(items), priority))
    distinct = list({entry.rule: entry for entry in entries}.values())
    check("all prefix lengths", description, distinct)


def test_rules_that_would_collide_without_a_seed() -> None:
    # Without the map's random seed, the product sum that is hashed is the same for all of these.
    description = Description.parse("match4,match4,match8")
    entries = [Entry((0, number, 0)) for number in range(5000)]
    rng = np.random.default_rng(4)
    packets = make_packets(rng, description, entries, PACKETS)
    with loaded(description, entries) as made:
        np.testing.assert_array_equal(
            winners(made, packets), BruteForce(description, entries).winners(packets)
        )
        assert made.stats().longest_chain < 16


def test_two_maps_of_one_set_hash_differently() -> None:
    description = Description.parse("match4")
    entries = [Entry((number,)) for number in range(1000)]
    chains = []
    for _ in range(2):
        with loaded(description, entries) as made:
            image = made._state.image
            chains.append(image.buckets.copy())
    assert (chains[0] != chains[1]).any()
