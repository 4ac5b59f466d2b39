# SPDX-License-Identifier: Apache-2.0
"""Defects of the proposed BPF_MAP_TYPE_WILDCARD, speed (F): what is right instead, by tables and chains.

What cannot occur here, or is measured elsewhere:

- F6: an exact lookup is one look into a dictionary of names, whatever the tables.
- F8: tables are visited by their best entry, no further than can win; bench/map.py measures with priorities.
"""

from __future__ import annotations

import sys
from ipaddress import ip_address
from typing import TYPE_CHECKING

import numpy as np

from support.bpfbuild import ROOT
from support.brute import BruteForce, Entry
from support.map_strategies import make_packets
from support.maps import loaded, winners
from wildcard_operator.wildcardmap import ANY, Benchmark, Description, RuleArrays, WildcardMap

sys.path.append(str(ROOT / "bench"))
import sets

if TYPE_CHECKING:
    from collections.abc import Iterable

PAIR = Description.parse("prefix4,prefix4")
FLOW4 = Description.parse("prefix4,prefix4,range2")
FLOW6 = Description.parse("prefix16,prefix16,range2")


def chains(description: Description, rules: Iterable[tuple[object, ...]]) -> tuple[int, float]:
    """The longest and the average chain of a map with these rules."""
    entries = [Entry(rule) for rule in rules]
    with loaded(description, entries) as made:
        stats = made.stats()
    return stats.longest_chain, stats.average_chain


def cut(address: int, length: int) -> tuple[int, int]:
    """The prefix of an address."""
    return address >> 32 - length << 32 - length, length


def test_f1_tables_do_not_depend_on_the_order_of_insertion() -> None:
    rules = sets.make_rules("fw", 4, 1000)
    found = set()
    for order in sets.ORDERS:
        ordered = sets.reorder(rules, order)
        description = Description.parse(rules.description)
        with WildcardMap.create(description, max_entries=1000) as made:
            made.load(
                RuleArrays.from_intervals(description, ordered.low, ordered.high, priorities=ordered.priority)
            )
            stats = made.stats()
            found.add((stats.tables, round(stats.average_probes, 6)))

    assert len(found) == 1


def test_f2_rules_that_differ_in_ranges_alone_are_told_apart() -> None:
    exact, _ = chains(Description.parse("range2"), [((port, port),) for port in range(1000)])
    blocks, _ = chains(
        Description.parse("prefix4,range2"), [(ANY, (16 * block, 16 * block + 15)) for block in range(1000)]
    )

    assert exact < 10
    assert blocks < 10


def test_f3_neighbours_do_not_share_a_chain() -> None:
    v4 = [(0x0A010000 + source, 0x0A020000 + target, 80) for source in range(64) for target in range(64)]
    base = int(ip_address("fd00:1::"))
    v6 = [(base + source, base + 2**64 + target, 80) for source in range(1, 65) for target in range(1, 65)]

    for description, rules in ((FLOW4, v4), (FLOW6, v6)):
        longest, average = chains(description, rules)
        assert longest < 12
        assert average < 2


def test_f4_any_mix_of_lengths_makes_at_most_64_tables() -> None:
    entries = [
        Entry((cut(0x0A0A0A0A, source), cut(0xC0C0C0C0, target)), index)
        for index, (source, target) in enumerate((s, t) for s in range(33) for t in range(33))
    ]
    packets = make_packets(np.random.default_rng(4), PAIR, entries, 2048)
    expected = BruteForce(PAIR, entries).winners(packets)
    for order in (entries, entries[::-1]):
        with loaded(PAIR, order) as made:
            assert made.stats().tables <= 64
            found = winners(made, packets)
        if order is not entries:
            found = np.where(found < 0, found, len(entries) - 1 - found)
        np.testing.assert_array_equal(found, expected)


def test_f5_the_index_leaves_few_tables_to_probe() -> None:
    rules = sets.make_rules("fw", 4, 10_000)
    description = Description.parse(rules.description)
    with WildcardMap.create(description, max_entries=10_000) as made:
        made.load(RuleArrays.from_intervals(description, rules.low, rules.high, priorities=rules.priority))
        stats = made.stats()

    assert stats.tables > 8
    assert stats.average_probes < stats.tables


def test_f7_a_miss_costs_no_more_than_twice_a_hit() -> None:
    rules = sets.make_rules("acl", 4, 10_000)
    description = Description.parse(rules.description)
    with WildcardMap.create(description, max_entries=10_000) as made:
        made.load(RuleArrays.from_intervals(description, rules.low, rules.high, priorities=rules.priority))
        misses, hits = (sets.make_packets(rules, 1024, share) for share in (0.0, 1.0))
        # In turn, so that what slows the machine for a while slows both.
        costs = [
            [made.time(Benchmark.INDEPENDENT, 1 << 16, packets) for packets in (misses, hits)]
            for _ in range(15)
        ]

    of_a_miss, of_a_hit = map(min, zip(*costs, strict=True))
    assert of_a_miss < 2 * of_a_hit
