# SPDX-License-Identifier: Apache-2.0
"""Two rule sets that a writer alternates between, and the program that looks for mixtures of them.

See tests/bpf/programs/atomicity.bpf.c. Run as a program, this forks a writer for each line that it reads: one
that prints its process id and commits to pinned maps as fast as it can, until it is killed. After its first
commit it prints `committed`.
"""

from __future__ import annotations

import itertools
import os
import struct
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from wildcard_operator.wildcardmap import (
    ANY,
    Description,
    Field,
    Kind,
    RuleArrays,
    WildcardGroup,
    WildcardMap,
    bpfsys,
)
from wildcard_operator.wildcardmap.btf import symbol_offset
from wildcard_operator.wildcardmap.libbpf import BpfObject

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = Description((Field("number", Kind.PREFIX, 4), Field("port", Kind.RANGE, 2)))
LINK = struct.Struct("=II")
RESULT = struct.Struct("=5Q")
RULES = 1000
KEYS = RULES // 2
LOOPS = 4096


def links(mark: int, keys: int) -> list[int]:
    """The links of set `mark`, 1 or 2: none is a number, nor a link of the other set."""
    return [mark << 20 | (number * 7 + mark) % keys for number in range(keys)]


def rule_sets(mark: int, *, one_map: bool) -> list[RuleArrays]:
    """A set's entries for each map: `RULES` that overlap in part, and one that is open in all fields."""
    chain = links(mark, KEYS)
    if one_map:
        numbers = [((number, ANY), chain[number]) for number in range(KEYS)]
        return [_arrays(mark, numbers + [((link, ANY), link) for link in chain])]
    low, high = (0, 0x7FFF + mark), (0x7000, 0xFFFF)
    numbers = [((number, ports), chain[number]) for number in range(KEYS) for ports in (low, high)]
    ends = [((link, ports), link) for link in chain for ports in (high, low)]
    return [_arrays(mark, numbers), _arrays(mark, ends)]


def _arrays(mark: int, entries: Sequence[tuple[tuple[object, ...], int]]) -> RuleArrays:
    """Entries of two priorities, which depend on the set, before the open one, which has no set."""
    return RuleArrays.from_rules(
        KEY,
        [rule for rule, _ in entries] + [(ANY, ANY)],
        priorities=[(index + mark) % 2 for index in range(len(entries))] + [9],
        values=[LINK.pack(mark, link) for _, link in entries] + [bytes(LINK.size)],
    )


def commit(group: WildcardGroup, maps: Sequence[WildcardMap], sets: Sequence[RuleArrays]) -> None:
    """Replace the entries of all maps in one commit."""
    with group.batch() as changes:
        for target, arrays in zip(maps, sets, strict=True):
            changes.on(target).replace(arrays)


class Watcher:
    """The program, in a thread that runs it without pause until the end of the block."""

    def __init__(self, path: Path, group: WildcardGroup, maps: Sequence[WildcardMap]) -> None:
        self._object = BpfObject(path)
        self._object.reuse_map("group", group.group_fd)
        maps[0].bind(self._object, "first")
        maps[-1].bind(self._object, "second")
        for name, number in (("keys", KEYS), ("one_map", len(maps) == 1)):
            self._object.set_constants(".rodata", struct.pack("=I", number), symbol_offset(path, name))
        self._object.load()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self._object.close()

    def _run(self) -> None:
        program = self._object.program_fd("classify")
        while not self._stop.is_set():
            bpfsys.run_syscall_program(program, struct.pack("=Q", LOOPS))
            # A processor that never leaves the kernel makes a grace period last a third of a second.
            os.sched_yield()

    def counted(self) -> tuple[int, int, int]:
        """Rounds that ended in set 1, in set 2, and mixtures."""
        data = bpfsys.map_lookup(self._object.map_fd(".bss"), bytes(4), RESULT.size)
        nothing, first, second, other, mixed = RESULT.unpack(data or bytes(RESULT.size))
        return first, second, mixed + nothing + other


def _write_forever(pin: Path, names: Sequence[str]) -> None:
    group = WildcardGroup.open(pin)
    maps = [WildcardMap.open(pin / name, group=group) for name in names]
    sets = [rule_sets(mark, one_map=len(names) == 1) for mark in (1, 2)]
    print(os.getpid(), flush=True)
    # Some writers do not live to see their second commit, so they begin with either set.
    for turn in itertools.count(os.getpid()):
        commit(group, maps, sets[turn % 2])
        if turn == os.getpid():
            print("committed", flush=True)


def main() -> None:
    """Fork a writer to the maps argv[2:] of the group pinned at argv[1], and one more for each line."""
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            _write_forever(Path(sys.argv[1]), sys.argv[2:])
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
