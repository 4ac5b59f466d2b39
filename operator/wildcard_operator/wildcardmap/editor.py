# SPDX-License-Identifier: Apache-2.0
"""Small changes to an image instead of a new one: a commit of one rule among 100,000 touches a few rows.

The image edited is the one that nobody reads; it equals the active one. What was touched is copied to the
other image after the flip. An edit keeps every answer right, but may leave the image slower than a new one
would be: stale bits in filters and index, a table that no longer is the best choice. ``too_many`` and
``drifted`` say when a commit builds anew instead.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from . import hashing, plan, windows
from .builder import DIRECT_LIMIT, field_mask
from .storage import TABLE_PLACES, Image, Shape


@dataclasses.dataclass(frozen=True, slots=True)
class NewRow:
    """An entry to add: its row as it will stand, and where."""

    row: int
    record: npt.NDArray[np.void]
    low: npt.NDArray[np.uint8]
    high: npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, slots=True)
class Edit:
    """One commit: rows to take out (with their low bounds, which give the bucket) and rows to put in."""

    removed: list[tuple[int, npt.NDArray[np.uint8]]]
    added: list[NewRow]


def too_many(changes: int, count: int) -> bool:
    """Whether building anew is quicker than so many edits of a map with ``count`` entries."""
    return changes > 128 + count // 16


def drifted(changes: int, count: int) -> bool:
    """Whether so many edits since the last build may have made lookups slower."""
    return changes > max(1024, count // 4) or count <= DIRECT_LIMIT


class Editor:
    """Edits images of one map between two builds of it."""

    def __init__(self, shape: Shape, image: Image) -> None:
        self._shape = shape
        self._places = TABLE_PLACES[: int(image.head["tables"][0]).bit_count()]
        self.lengths = _lengths(shape, image.tables["mask"][self._places])
        self._windows = windows_of(shape, image)
        self._touched_rows: set[int] = set()
        self._touched_buckets: set[int] = set()

    def table_for(self, low: npt.NDArray[np.uint8], high: npt.NDArray[np.uint8]) -> int | None:
        """Return the table with the longest mask that a rule may go into, or None."""
        lengths = plan.tuples(self._shape.description, low[None], high[None])[0]
        allowed = np.flatnonzero((self.lengths <= lengths).all(axis=1))
        if not len(allowed):
            return None
        return int(allowed[np.argmax(self.lengths[allowed].sum(axis=1, dtype=np.intp))])

    def apply(self, image: Image, edit: Edit) -> None:
        """Change the image."""
        self._touched_rows, self._touched_buckets = set(), set()
        for row, low in edit.removed:
            self._unlink(image, row, low)
        for new in edit.added:
            self._link(image, new)

    def copy(self, image: Image, source: Image) -> None:
        """Bring the other image to what ``apply`` made of ``source``."""
        rows = np.fromiter(self._touched_rows, np.intp)
        buckets = np.fromiter(self._touched_buckets, np.intp)
        image.rows[rows] = source.rows[rows]
        image.buckets[buckets] = source.buckets[buckets]
        image.tables[self._places] = source.tables[self._places]
        used = sum(1 << window.bits for window, _ in self._windows)
        image.index[:used] = source.index[:used]

    def _bucket(self, image: Image, low: npt.NDArray[np.uint8], table: int) -> tuple[int, int]:
        """Return (bucket, filter bit) of a rule in a table."""
        record = image.tables[self._places[table]]
        masked = low.view(np.uint64)[None] & record["mask"]
        hashed = int(hashing.hashes(image.head["seed"][0], record["seed"][None], masked)[0])
        return hashed & (len(image.buckets) - 1), 1 << (hashed >> 27)

    def _unlink(self, image: Image, row: int, low: npt.NDArray[np.uint8]) -> None:
        bucket, _ = self._bucket(image, low, int(image.rows["table"][row]) - 1)
        following = int(image.rows["next"][row])
        head = image.buckets[bucket]
        at = int(head["row"])
        if at == row:
            # An empty chain needs no filter; bits of a chain that goes on may be stale.
            head["row"], head["place"] = following, image.rows["place"][following]
            head["filter"] = head["filter"] if following else 0
            self._touched_buckets.add(bucket)
        else:
            chain = image.rows["next"]
            while chain[at] != row:
                at = int(chain[at])
            chain[at] = following
            self._touched_rows.add(at)
        image.rows["table"][row] = 0
        self._touched_rows.add(row)

    def _link(self, image: Image, new: NewRow) -> None:
        table = int(new.record["table"]) - 1
        place = int(new.record["place"])
        bucket, bit = self._bucket(image, new.low, table)
        head = image.buckets[bucket]
        previous, at = 0, int(head["row"])
        places, chain = image.rows["place"], image.rows["next"]
        while at and places[at] < place:
            previous, at = at, int(chain[at])
        image.rows[new.row] = new.record
        image.rows["next"][new.row] = at
        if previous:
            chain[previous] = new.row
            self._touched_rows.add(previous)
        else:
            head["row"], head["place"] = new.row, place
        head["filter"] |= bit
        self._touched_rows.add(new.row)
        self._touched_buckets.add(bucket)
        self._index(image, new, table)
        tables = image.tables
        if place < tables["best"][self._places[table]]:
            tables["best"][self._places[table]] = place
            best = tables["best"][self._places]
            tables["rest"][self._places] = np.minimum.accumulate(best[::-1])[::-1]

    def _index(self, image: Image, new: NewRow, table: int) -> None:
        bit = np.uint64(1 << table)
        for window, start in self._windows:
            least, most = windows.interval(window, new.low[None], new.high[None])
            image.index[start + int(least[0]) : start + int(most[0]) + 1] |= bit


def _lengths(shape: Shape, masks: npt.NDArray[np.uint64]) -> plan.Lengths:
    """The tuples of tables, from their masks."""
    description = shape.description
    packed = np.ascontiguousarray(masks).view(np.uint8).reshape(len(masks), 8 * description.words)
    packed &= field_mask(description, range_fields=True)
    lengths = np.zeros((len(masks), len(description.fields)), np.uint8)
    for index, (field, offset) in enumerate(zip(description.fields, description.offsets, strict=True)):
        lengths[:, index] = np.bitwise_count(packed[:, offset : offset + field.size]).sum(axis=1)
    return lengths


def windows_of(shape: Shape, image: Image) -> list[tuple[windows.Window, int]]:
    """The windows in use and where their sets start in this image's index."""
    found = []
    for record in image.head["window"][0, : int(image.head["windows"][0])]:
        bits = int(record["mask"]).bit_length()
        window = windows.at(shape.description, int(record["word"]), int(record["shift"]), bits)
        found.append((window, int(record["base"]) - image.index_base))
    return found
