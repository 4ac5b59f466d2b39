# SPDX-License-Identifier: Apache-2.0
"""Who is in a map: the names, rows and ids of its entries, in the total order. Made when it is needed."""

import bisect

import numpy as np
import numpy.typing as npt

from . import builder
from .storage import Image, Shape

_LABELS = 1 << 32


class Roster:
    """The entries of one image between two builds.

    ``row_of``: name -> row. ``free``: free rows, the next one last. ``id_uses``: entries of each rule id.
    """

    def __init__(self, shape: Shape, image: Image) -> None:
        live = np.flatnonzero(image.rows["table"])
        rows = live[np.argsort(image.rows["place"][live])]
        records = image.rows[rows]
        self._order = builder.decode_rows(shape, records).identities()
        self._places = dict(zip(self._order, records["place"].tolist(), strict=True))
        self.row_of = dict(zip(self._order, rows.tolist(), strict=True))
        self.free: list[int] = np.flatnonzero(image.rows["table"] == 0)[:0:-1].tolist()
        self.id_uses: npt.NDArray[np.intp] = np.bincount(records["id"], minlength=shape.max_rule_ids)

    def add(self, name: bytes) -> int | None:
        """Give a new entry its place; None where no place is left between its neighbours."""
        at = bisect.bisect_left(self._order, name)
        before = self._label(name, at - 1) if at else 0
        after = (self._label(name, at) or _LABELS) if at < len(self._order) else _LABELS
        label = (before + after) // 2
        if label == before:
            return None
        self._order.insert(at, name)
        self._places[name] = int.from_bytes(name[:4], "big") << 32 | label
        return int(self._places[name])

    def _label(self, name: bytes, at: int) -> int:
        """The low half of a neighbour's place, or 0 where it has another priority."""
        neighbour = self._order[at]
        return self._places[neighbour] & (_LABELS - 1) if neighbour[:4] == name[:4] else 0

    def remove(self, name: bytes) -> None:
        """Take an entry out of the order."""
        del self._order[bisect.bisect_left(self._order, name)]
        del self._places[name]
