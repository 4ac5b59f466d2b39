# SPDX-License-Identifier: Apache-2.0
"""What a wildcard map offers: a test for every row of the table in the design, by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from support.bpfbuild import ROOT, compile_bpf
from support.brute import BruteForce
from support.map_strategies import make_entries, make_packets
from support.maps import loaded, winners
from wildcard_operator.wildcardmap import (
    ANY,
    Algorithm,
    Description,
    EntryExists,
    EntryNotFound,
    MapBusy,
    MapFull,
    UpdateFlag,
    WildcardGroup,
    WildcardMap,
    bpfsys,
)
from wildcard_operator.wildcardmap.libbpf import BpfObject

if TYPE_CHECKING:
    from pathlib import Path

    from wildcard_operator.wildcardmap.rules import Rule

FLOW = Description.parse("prefix4,range2")
MIXED = Description.parse("prefix4,prefix16,range2,range8,match1,any4")


def test_fields() -> None:
    """1 to 9 of every kind and size, up to 128 bytes, in one map."""
    rng = np.random.default_rng(1)
    for text in (
        "match1",
        "prefix1,prefix2,prefix4,prefix8,prefix16,match1,match2,match4,match8",
        "range1,range2,range4,range8,any1,any2,any4,any8,any16",
        ",".join(["prefix16"] * 8),
    ):
        description = Description.parse(text)
        entries = make_entries(rng, description, 40)
        packets = make_packets(rng, description, entries, 256)
        with loaded(description, entries) as made:
            np.testing.assert_array_equal(
                winners(made, packets), BruteForce(description, entries).winners(packets)
            )


def test_keys() -> None:
    """A rule gets its own entry back; an element gets the best entry that matches it."""
    with WildcardMap.create(FLOW, max_entries=8) as made:
        made.update(((0x0A000000, 8), (80, 90)), rule_id=1)
        made.update(((0x0A000000, 16), (80, 90)), rule_id=2, priority=1)

        exact = made.get(((0x0A000000, 16), (80, 90)), priority=1)
        assert exact is not None
        assert exact.rule_id == 2
        assert made.get(((0x0A000000, 24), (80, 90))) is None
        match = made.match((0x0A000001, 85))
        assert match is not None
        assert match.rule_id == 1


def test_operations() -> None:
    """Update with its flags, get, delete, iterate, count, batch; a refusal changes nothing."""
    rule = ((0x0A000000, 8), 80)
    with WildcardMap.create(FLOW, max_entries=2, value_size=1) as made:
        with pytest.raises(EntryNotFound):
            made.update(rule, b"a", flags=UpdateFlag.EXIST)
        made.update(rule, b"a", flags=UpdateFlag.NOEXIST)
        with pytest.raises(EntryExists):
            made.update(rule, b"b", flags=UpdateFlag.NOEXIST)
        made.update(rule, b"c", flags=UpdateFlag.EXIST)
        with pytest.raises(MapFull):
            _replace_by_three(made, rule)
        assert [(entry.rule, entry.value) for entry in made] == [(((0x0A000000, 8), (80, 80)), b"c")]

        with made.batch() as changes:
            changes.update((ANY, 1), b"e", priority=1)
            changes.update((ANY, 2), b"f")
            changes.delete(rule)
        assert [(entry.value, entry.priority) for entry in made] == [(b"f", 0), (b"e", 1)]
        assert len(made) == 2
        with pytest.raises(EntryNotFound):
            made.delete(rule)


def _replace_by_three(made: WildcardMap, rule: Rule) -> None:
    with made.batch() as changes:
        changes.delete(rule)
        for port in range(3):
            changes.update((ANY, port), b"d")


@pytest.mark.parametrize("count", [0, 1, 32, 33, 400])
def test_algorithms(count: int) -> None:
    """All of them give one answer, at the sizes where `auto` changes its way too."""
    rng = np.random.default_rng(count)
    entries = make_entries(rng, MIXED, count)
    packets = make_packets(rng, MIXED, entries, 1024)
    expected = BruteForce(MIXED, entries).winners(packets)
    for algorithm in Algorithm:
        with loaded(MIXED, entries, algorithm) as made:
            np.testing.assert_array_equal(winners(made, packets), expected)


def test_priority() -> None:
    """The lowest number wins; ties by order, then by the rule; a lookup may begin at a place."""
    with WildcardMap.create(FLOW, max_entries=8) as made:
        for priority, order, length in ((2**32 - 1, 0, 0), (5, 1, 8), (5, 0, 16), (5, 0, 0), (0, 9, 32)):
            made.update(((0, length), ANY), priority=priority, order=order)

        found, floor = [], 0
        while (match := made.match((0, 0), floor=floor)) is not None:
            found.append((match.priority, match.order, match.rule[0][1]))
            floor = match.place + 1
        # Of (0/0 and 0/16 at priority 5, order 0) the one whose high bound is lower comes first.
        assert found == [(0, 9, 32), (5, 0, 16), (5, 0, 0), (5, 1, 8), (2**32 - 1, 0, 0)]
        fifth = made.match((0, 0), floor=5 << 32)
        assert fifth is not None
        assert (fifth.priority, fifth.order) == (5, 0)


def test_value() -> None:
    """User bytes and a rule id, assigned or given; entries may share one."""
    with WildcardMap.create(FLOW, max_entries=8, value_size=5, max_rule_ids=4) as made:
        made.update((ANY, 1), b"first", rule_id=3)
        made.update((ANY, 2), b"other", rule_id=3)
        made.update((ANY, 3), b"third")
        made.update((ANY, 4), b"fifth")

        ids = {entry.value: entry.rule_id for entry in made}
        assert ids[b"first"] == ids[b"other"] == 3
        assert len({ids[b"third"], ids[b"fifth"], 3}) == 3
        made.update((ANY, 3), b"again")
        again = made.get((ANY, 3))
        assert again is not None
        assert (again.value, again.rule_id) == (b"again", ids[b"third"])


def test_counters(tmp_path: Path, bpffs: Path) -> None:
    """Packets and bytes of a rule id, over all CPUs, through commits and a new writer."""
    path = compile_bpf(ROOT / "tests" / "bpf" / "programs" / "counting.bpf.c", tmp_path)
    pin = bpffs / "map"
    made = WildcardMap.of_object(path, "counted", max_entries=8, pin=pin)
    with BpfObject(path) as program:
        made.bind(program, "counted")
        program.reuse_map("group", made.group.group_fd)
        program.load()
        made.update((1,), bytes(8), rule_id=5)
        made.update((2,), bytes(8), rule_id=5)
        for number, times in ((1, 3), (2, 4), (3, 9)):
            for _ in range(times):
                bpfsys.run_syscall_program(program.program_fd("count"), number.to_bytes(8, "little"))
        assert made.counters()[5].tolist() == [7, 7 * 100]

        made.update((3,), bytes(8), rule_id=2)
        made.close()
        bpfsys.run_syscall_program(program.program_fd("count"), (1).to_bytes(8, "little"))
        with WildcardMap.open(pin) as opened:
            assert opened.counters()[5].tolist() == [8, 8 * 100]
            assert opened.counters().sum() == 8 * 101
            opened.reset_counters([5])
            assert opened.counters().sum() == 0


def test_commit(bpffs: Path) -> None:
    """A batch over several maps is seen all at once; one writer at a time (more: test_atomicity.py)."""
    pin = bpffs / "group"
    group = WildcardGroup.create(pin)
    first, second = (
        WildcardMap.create(FLOW, max_entries=8, group=group, name=name) for name in ("first", "second")
    )
    with pytest.raises(MapFull):
        _fill(group, first, second)
    assert (len(first), len(second)) == (0, 0)

    before = group.active
    with group.batch() as changes:
        changes.on(first).update((ANY, 1))
        changes.on(second).update((ANY, 2))
    assert (len(first), len(second), group.active) == (1, 1, 1 - before)

    with pytest.raises(MapBusy, match="another process is writing"):
        WildcardGroup.open(pin)
    reader = WildcardGroup.open(pin, write=False)
    with WildcardMap.open(pin / "first", group=reader) as opened, pytest.raises(MapBusy, match="for reading"):
        opened.update((ANY, 3))
    reader.close()
    for made in (first, second):
        made.close()
    group.close()


def _fill(group: WildcardGroup, first: WildcardMap, second: WildcardMap) -> None:
    with group.batch() as changes:
        changes.on(first).update((ANY, 1))
        for port in range(9):
            changes.on(second).update((ANY, port))


def test_memory() -> None:
    """All memory is taken at creation; `stats` tells how full and how good the map is."""
    with WildcardMap.create(FLOW, max_entries=1000) as made:
        empty = made.stats()
        with made.batch() as changes:
            for port in range(500):
                changes.update(((0x0A000000 + port, 32), port))
        full = made.stats()

        assert (empty.entries, full.entries, full.capacity) == (0, 500, 1000)
        assert empty.memory == full.memory > 1000 * 2 * made.shape.row_type.itemsize
        assert (full.tables, full.average_probes) == (1, 1.0)
        assert 1 <= full.average_chain <= full.longest_chain < 10
        assert full.worst_probes >= 1
