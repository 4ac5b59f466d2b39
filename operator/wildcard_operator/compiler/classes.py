# SPDX-License-Identifier: Apache-2.0
"""Peer classes: their numbers, and for each selector the fewest class prefixes that stand for it.

A class is known by its key: the ids of all selectors (and of named ports under them) that its members are
in. Numbers are laid out so that classes which the same broad selectors pick are neighbours, and keep while
the class lives. A prefix may cover numbers that no class has; a class that is born there makes the
selectors concerned split theirs.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wildcard_operator.model.entries import POD_CLASS_BIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Key = frozenset[int]
ClassPrefix = tuple[int, int]

_BLOCK_BITS: Final = 16
_BLOCKS: Final = 1 << (31 - _BLOCK_BITS)


@dataclass(slots=True)
class _Block:
    neighbours: Key
    used: int = 0
    next_place: int = 0
    free: list[int] = field(default_factory=list)

    def full(self) -> bool:
        return not self.free and self.next_place == 1 << _BLOCK_BITS


class Numbers:
    """Class numbers in blocks: classes that ask for the same neighbours get numbers of one block."""

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._blocks_of: dict[Key, list[int]] = {}
        self._free_blocks: list[int] = []

    def take(self, neighbours: Key) -> int:
        """A number, near those that were taken with the same `neighbours`."""
        numbers = self._blocks_of.setdefault(neighbours, [])
        number = next((n for n in numbers if not self._blocks[n].full()), None)
        if number is None:
            number = self._new_block(neighbours)
            numbers.append(number)
        block = self._blocks[number]
        block.used += 1
        if block.free:
            place = heapq.heappop(block.free)
        else:
            place = block.next_place
            block.next_place += 1
        return POD_CLASS_BIT | number << _BLOCK_BITS | place

    def give_back(self, number: int) -> None:
        """Make a number free for another class, and its block where it was the last in it."""
        index = (number & ~POD_CLASS_BIT) >> _BLOCK_BITS
        block = self._blocks[index]
        block.used -= 1
        heapq.heappush(block.free, number & ((1 << _BLOCK_BITS) - 1))
        if not block.used:
            del self._blocks[index]
            self._blocks_of[block.neighbours].remove(index)
            if not self._blocks_of[block.neighbours]:
                del self._blocks_of[block.neighbours]
            heapq.heappush(self._free_blocks, index)

    def _new_block(self, neighbours: Key) -> int:
        index = heapq.heappop(self._free_blocks) if self._free_blocks else len(self._blocks)
        if index == _BLOCKS:
            raise OverflowError(f"more than {_BLOCKS} different sets of broad selectors on one node")
        self._blocks[index] = _Block(neighbours)
        return index


class Covers:
    """For each member id the class prefixes that hold its classes and no other living one."""

    def __init__(self) -> None:
        self._live: list[int] = []
        self._members: dict[int, list[int]] = {}
        self._covers: dict[int, tuple[ClassPrefix, ...]] = {}
        self._users: dict[ClassPrefix, set[int]] = {}
        self._stale: set[int] = set()

    def cover(self, member: int) -> tuple[ClassPrefix, ...]:
        """The prefixes of a member, as of the last `refresh`; () where nobody is in it."""
        return self._covers.get(member, ())

    def born(self, number: int, key: Key) -> None:
        """A class has come to life."""
        insort(self._live, number)
        for prefix in _ancestors(number):
            self._stale.update(self._users.get(prefix, ()))
        self.gain(number, key)

    def died(self, number: int, key: Key) -> None:
        """A class has no members any more."""
        del self._live[bisect_left(self._live, number)]
        self.lose(number, key)

    def gain(self, number: int, members: Iterable[int]) -> None:
        """A class is in these members from now on."""
        for member in members:
            insort(self._members.setdefault(member, []), number)
            self._stale.add(member)

    def lose(self, number: int, members: Iterable[int]) -> None:
        """A class is in these members no more."""
        for member in members:
            numbers = self._members[member]
            del numbers[bisect_left(numbers, number)]
            if not numbers:
                del self._members[member]
            self._stale.add(member)

    def refresh(self) -> list[int]:
        """Work out the covers that may have changed; the members whose cover did."""
        changed = []
        for member in sorted(self._stale):
            old = self._covers.get(member, ())
            new = tuple(_prefixes(self._members.get(member, []), self._live))
            if new != old:
                self._replace(member, old, new)
                changed.append(member)
        self._stale.clear()
        return changed

    def _replace(self, member: int, old: tuple[ClassPrefix, ...], new: tuple[ClassPrefix, ...]) -> None:
        for prefix in old:
            users = self._users[prefix]
            users.discard(member)
            if not users:
                del self._users[prefix]
        for prefix in new:
            self._users.setdefault(prefix, set()).add(member)
        if new:
            self._covers[member] = new
        else:
            self._covers.pop(member, None)


def _ancestors(number: int) -> Iterator[ClassPrefix]:
    for length in range(1, 33):
        shift = 32 - length
        yield number >> shift << shift, length


def _prefixes(members: list[int], live: list[int]) -> Iterator[ClassPrefix]:
    """The fewest prefixes over `members` that hold no other number of `live`; both are sorted.

    Each is as long as its members allow, so that a class born later seldom falls into it.
    """
    if not members:
        return
    first, last = members[0], members[-1]
    shift = (first ^ last).bit_length()
    low = bisect_left(live, first >> shift << shift)
    high = bisect_left(live, ((first >> shift) + 1) << shift)
    if high - low == len(members):
        yield first >> shift << shift, 32 - shift
        return
    middle = bisect_left(members, last >> (shift - 1) << (shift - 1))
    yield from _prefixes(members[:middle], live)
    yield from _prefixes(members[middle:], live)
