# SPDX-License-Identifier: Apache-2.0
"""Counter numbers of rules: an id keeps its name as long as that lives, over restarts too."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wildcard_operator.model.entries import RuleName


class RuleIds:
    """Ids by name, each counted by those who use it. `known` are ids from before a restart."""

    def __init__(self, known: Mapping[int, RuleName]) -> None:
        self._unclaimed = {name: number for number, name in known.items()}
        self._ids: dict[RuleName, int] = {}
        self._uses: dict[int, int] = {}
        self._names: dict[int, RuleName] = dict(known)
        self._free: list[int] = []
        self._last = max(known, default=0)
        self._added: dict[int, RuleName] = {}
        self._removed: set[int] = set()

    def take(self, name: RuleName) -> int:
        """The id of a name; each use is given back by one `give_back`."""
        number = self._ids.get(name)
        if number is None:
            number = self._unclaimed.pop(name, None) or self._new(name)
            self._ids[name] = number
        self._uses[number] = self._uses.get(number, 0) + 1
        return number

    def give_back(self, number: int) -> None:
        """One use less; without any the id is free from the next delta on."""
        self._uses[number] -= 1
        if not self._uses[number]:
            del self._uses[number]
            self._forget(self._names[number])

    def forget_unclaimed(self) -> None:
        """Free the ids of before a restart that nothing has taken up: their rules are gone."""
        for name, number in self._unclaimed.items():
            self._ids[name] = number
            self._forget(name)
        self._unclaimed.clear()

    def names(self) -> dict[int, RuleName]:
        """All names by id."""
        return dict(self._names)

    def take_changes(self) -> tuple[dict[int, RuleName], tuple[int, ...]]:
        """Names added and ids removed since the last call; what is removed may be used again after it."""
        added, removed = self._added, tuple(sorted(self._removed))
        self._added, self._removed = {}, set()
        for number in removed:
            heapq.heappush(self._free, number)
        return added, removed

    def _new(self, name: RuleName) -> int:
        if self._free:
            number = heapq.heappop(self._free)
        else:
            self._last += 1
            number = self._last
        self._names[number] = self._added[number] = name
        return number

    def _forget(self, name: RuleName) -> None:
        number = self._ids.pop(name)
        del self._names[number]
        if self._added.pop(number, None) is None:
            self._removed.add(number)
        else:
            heapq.heappush(self._free, number)
