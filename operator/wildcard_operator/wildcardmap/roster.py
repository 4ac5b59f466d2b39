# SPDX-License-Identifier: Apache-2.0
"""Who is in a map: the names, rows and ids of its entries, in the total order. Made when it is needed.

A map may have a hundred thousand entries of which one changes now and then. So what a build left is packed,
50 bytes for an address instead of 280 in dicts and lists, and what edits changed since lies beside it.
"""

import bisect
from array import array
from collections.abc import Iterator, MutableMapping

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from . import builder
from .storage import Image, Shape

_LABELS = 1 << 32


class Names:
    """Names of one width, in ascending order, as one object."""

    def __init__(self, names: npt.NDArray[np.uint8]) -> None:
        self._count, self._width = len(names), names.shape[1]
        self._packed = names.tobytes()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> bytes:
        return self._packed[index * self._width : (index + 1) * self._width]

    def __iter__(self) -> Iterator[bytes]:
        return map(self.__getitem__, range(self._count))

    def index(self, name: bytes) -> int:
        """Where this name is, or -1."""
        at = bisect.bisect_left(self, name)
        return at if at < self._count and self[at] == name else -1


class Rows(MutableMapping[bytes, int]):
    """Name of an entry -> its row."""

    def __init__(self, names: Names, rows: npt.NDArray[np.intp]) -> None:
        self._names, self._rows = names, rows.astype(np.uint32)
        self._changed: dict[bytes, int | None] = {}  # None: gone
        self._count = len(names)

    @override
    def __getitem__(self, name: bytes) -> int:
        if name in self._changed:
            row = self._changed[name]
        else:
            at = self._names.index(name)
            row = None if at < 0 else int(self._rows[at])
        if row is None:
            raise KeyError(name)
        return row

    @override
    def __setitem__(self, name: bytes, row: int) -> None:
        self._count += name not in self
        self._changed[name] = row

    @override
    def __delitem__(self, name: bytes) -> None:
        self._count -= name in self
        self._changed[name] = None

    @override
    def __iter__(self) -> Iterator[bytes]:
        yield from (name for name in self._names if name not in self._changed)
        yield from (name for name, row in self._changed.items() if row is not None)

    @override
    def __len__(self) -> int:
        return self._count


class Roster:
    """The entries of one image between two builds.

    ``row_of``: name -> row. ``free``: free rows, the next one last. ``id_uses``: entries of each rule id.
    """

    def __init__(self, shape: Shape, image: Image) -> None:
        live = np.flatnonzero(image.rows["table"])
        rows = live[np.argsort(image.rows["place"][live])]
        records = image.rows[rows]
        self._names = Names(builder.decode_rows(shape, records).packed_identities())
        self._places = records["place"].copy()
        self._gone: set[int] = set()  # positions in these
        self._added: list[bytes] = []  # in ascending order
        self._place_of_added: dict[bytes, int] = {}
        self.row_of = Rows(self._names, rows)
        self.free = array("I", np.flatnonzero(image.rows["table"] == 0)[:0:-1].astype(np.uint32).tobytes())
        self.id_uses: npt.NDArray[np.intp] = np.bincount(records["id"], minlength=shape.max_rule_ids)

    def add(self, name: bytes) -> int | None:
        """Give a new entry its place; None where no place is left between its neighbours."""
        before, after = self._neighbours(name)
        priority = int.from_bytes(name[:4], "big")
        low = before % _LABELS if before is not None and before // _LABELS == priority else 0
        high = after % _LABELS if after is not None and after // _LABELS == priority else _LABELS
        label = (low + high) // 2
        if label == low:
            return None
        bisect.insort(self._added, name)
        self._place_of_added[name] = place = priority * _LABELS + label
        return place

    def _neighbours(self, name: bytes) -> tuple[int | None, int | None]:
        """The places of the entries before and after a new one."""
        after = bisect.bisect_left(self._names, name)
        before = after - 1
        while before in self._gone:
            before -= 1
        while after in self._gone:
            after += 1
        at = bisect.bisect_left(self._added, name)
        lower = [int(self._places[before])] if before >= 0 else []
        upper = [int(self._places[after])] if after < len(self._names) else []
        lower += [self._place_of_added[one] for one in self._added[max(at - 1, 0) : at]]
        upper += [self._place_of_added[one] for one in self._added[at : at + 1]]
        return max(lower, default=None), min(upper, default=None)

    def remove(self, name: bytes) -> None:
        """Take an entry out of the order."""
        if name in self._place_of_added:
            del self._place_of_added[name]
            del self._added[bisect.bisect_left(self._added, name)]
        else:
            self._gone.add(self._names.index(name))
