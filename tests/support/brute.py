# SPDX-License-Identifier: Apache-2.0
"""What a wildcard map must answer, by looking at every entry: a reference that shares no code with the map.

A field of a rule is a span, the least and the greatest value that it matches; prefixes, exact values and
"any" are spans too. The best entry of those that match is the one with the lowest (priority, order, spans):
the last resort of ties compares the low bounds in the order of the fields, then the high ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wildcard_operator.wildcardmap import ANY, Description, Field, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

Item = object
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """A rule in the map's own form, with its place."""

    rule: tuple[Item, ...]
    priority: int = 0
    order: int = 0


def span(field: Field, item: Item) -> Span:
    """The least and greatest value that `item` matches in `field`."""
    if item is ANY:
        return 0, 2**field.bits - 1
    match field.kind, item:
        case Kind.PREFIX, (int(value), int(length)):
            host = 2 ** (field.bits - length) - 1
            return value & ~host, value | host
        case Kind.RANGE, (int(low), int(high)):
            return low, high
        case _, int(value):
            return value, value
    raise AssertionError(f"no such {field.kind}: {item!r}")


def spans(description: Description, rule: Sequence[Item]) -> tuple[Span, ...]:
    """A rule as spans."""
    return tuple(span(field, item) for field, item in zip(description.fields, rule, strict=True))


class BruteForce:
    """The reference for a set of entries."""

    def __init__(self, description: Description, entries: Sequence[Entry]) -> None:
        self.description = description
        self.entries = list(entries)
        boxes = [spans(description, entry.rule) for entry in self.entries]
        places = [
            (entry.priority, entry.order, *zip(*box, strict=True))
            for entry, box in zip(self.entries, boxes, strict=True)
        ]
        self.ranking = sorted(range(len(places)), key=places.__getitem__)
        self.rank = {at: rank for rank, at in enumerate(self.ranking)}
        self._bounds = [
            [_words([boxes[at][index][side] for at in self.ranking], field.size) for side in (0, 1)]
            for index, field in enumerate(description.fields)
        ]

    def matches(self, packets: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """bool[packets, entries by rank]: which entries match uint8[packets, key size]."""
        matching = np.ones((len(packets), len(self.ranking)), bool)
        offset = 0
        for field, (low, high) in zip(self.description.fields, self._bounds, strict=True):
            value = _words_of_bytes(packets[:, offset : offset + field.size])[:, :, None]
            matching &= _not_less(value, low[:, None, :]) & _not_less(high[:, None, :], value)
            offset += field.size
        return matching

    def winners(
        self, packets: npt.NDArray[np.uint8], floors: npt.NDArray[np.int64] | int = 0
    ) -> npt.NDArray[np.int64]:
        """The index of the entry that wins each packet, of those ranked `floors` or behind, or -1."""
        winners = np.full(len(packets), -1, np.int64)
        if not self.entries:
            return winners
        ranks = np.arange(len(self.ranking))
        floors = np.broadcast_to(floors, len(packets))
        step = max(1, 2**22 // len(self.ranking))
        for start in range(0, len(packets), step):
            part = slice(start, start + step)
            matching = self.matches(packets[part]) & (ranks >= floors[part, None])
            best = np.array(self.ranking)[matching.argmax(axis=1)]
            winners[part] = np.where(matching.any(axis=1), best, -1)
        return winners


def _words(values: list[int], size: int) -> npt.NDArray[np.uint64]:
    """uint64[2, n]: high and low halves of numbers of up to 16 bytes."""
    data = b"".join(value.to_bytes(size, "big") for value in values)
    return _words_of_bytes(np.frombuffer(data, np.uint8).reshape(len(values), size))


def _words_of_bytes(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    padded = np.zeros((len(rows), 16), np.uint8)
    padded[:, 16 - rows.shape[1] :] = rows
    return padded.view(">u8").astype(np.uint64).T


def _not_less(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    return (left[0] > right[0]) | ((left[0] == right[0]) & (left[1] >= right[1]))
