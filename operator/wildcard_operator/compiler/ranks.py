# SPDX-License-Identifier: Apache-2.0
"""Numbers that sort as names do and seldom change.

Each list spreads its names over the numbers; a new one gets the middle between its neighbours. Only where
there is no room left are all names of the list numbered anew.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from wildcard_operator.model.entries import PLACE_BITS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

RANK_BITS: Final = 32 - PLACE_BITS
FIRST_RANK: Final = 1
_STEP: Final = 64

Name = tuple[str, str, int]
"""An object's name, its RuleSet's name, and a number: an object with very many rules has several ranks."""


class RankList:
    """Ranks of the names of one list. Rank 0 is nobody's: failsafe entries stand there."""

    def __init__(self) -> None:
        self._names: list[Name] = []
        self._ranks: dict[Name, int] = {}

    def __getitem__(self, name: Name) -> int:
        return self._ranks[name]

    def __len__(self) -> int:
        return len(self._names)

    def add(self, names: Collection[Name]) -> bool:
        """Put names in; True where others got new ranks by it."""
        if len(names) > len(self._names):
            others = bool(self._names)
            self._names = sorted([*self._names, *names])
            self._spread()
            return others
        renumbered = False
        for name in names:
            renumbered |= self._insert(name)
        return renumbered

    def remove(self, names: Iterable[Name]) -> None:
        """Take names out."""
        for name in names:
            del self._names[bisect_left(self._names, name)]
            del self._ranks[name]

    def _insert(self, name: Name) -> bool:
        index = bisect_left(self._names, name)
        low = self._ranks[self._names[index - 1]] if index else FIRST_RANK - 1
        high = self._ranks[self._names[index]] if index < len(self._names) else 1 << RANK_BITS
        self._names.insert(index, name)
        rank = _between(low, high, first=index == 0, last=index == len(self._names) - 1)
        if low < rank < high:
            self._ranks[name] = rank
            return False
        self._spread()
        return True

    def _spread(self) -> None:
        """Number all anew, half of the room in front and half behind: names often come in order."""
        step = (1 << RANK_BITS) // (2 * (len(self._names) + 1))
        if not step:
            raise OverflowError(f"more than {1 << (RANK_BITS - 1)} policies of one priority on one node")
        step = min(step, _STEP)
        first = ((1 << RANK_BITS) - step * len(self._names)) // 2
        self._ranks = {name: first + place * step for place, name in enumerate(self._names)}


def _between(low: int, high: int, *, first: bool, last: bool) -> int:
    """The middle; at the ends a fixed step on, as names that come in order would halve the room each time."""
    if last and not first:
        return min(low + _STEP, (low + high) // 2)
    if first and not last:
        return max(high - _STEP, (low + high) // 2)
    return (low + high) // 2
