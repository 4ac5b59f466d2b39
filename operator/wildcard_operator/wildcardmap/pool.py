# SPDX-License-Identifier: Apache-2.0
"""The prefix lengths that the tables of static Tuple Merge may have."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from .description import MAX_TABLES, Description, Kind
from .errors import InvalidArgument, MapFull

MAX_LENGTHS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """Prefix lengths for each PREFIX field, in the order of the fields; a table is one length from each.

    ``cartesian``: every combination is a table. Otherwise the lists have one length and go side by side.
    """

    lengths: tuple[tuple[int, ...], ...]
    cartesian: bool

    @classmethod
    def of_list(cls, *lengths: Sequence[int]) -> Self:
        """Tables given one by one: the n-th has the n-th length of every field."""
        return cls(tuple(map(tuple, lengths)), cartesian=False)

    @classmethod
    def of_product(cls, *lengths: Sequence[int]) -> Self:
        """Every combination of the fields' lengths."""
        return cls(tuple(map(tuple, lengths)), cartesian=True)

    def tables(self, description: Description) -> npt.NDArray[np.uint8]:
        """Return the tables' lengths, 0 in fields that are not prefixes: uint8[tables, fields]."""
        prefixes = [index for index, field in enumerate(description.fields) if field.kind is Kind.PREFIX]
        if len(self.lengths) != len(prefixes):
            raise InvalidArgument(
                f"the key has {len(prefixes)} PREFIX fields, the pool has {len(self.lengths)}", "pool"
            )
        for index, lengths in zip(prefixes, self.lengths, strict=True):
            self._check_field(description.fields[index].name, description.fields[index].bits, lengths)
        count = (
            math.prod(map(len, self.lengths)) if self.cartesian else max(map(len, self.lengths), default=0)
        )
        if count > MAX_TABLES:
            raise MapFull(f"the pool makes {count} tables, {MAX_TABLES} is the most", "pool")
        if self.cartesian:
            combinations = list(itertools.product(*self.lengths))
        elif len(set(map(len, self.lengths))) > 1:
            raise InvalidArgument(
                "the lists of a pool have one length: a table takes one item from each", "pool"
            )
        else:
            combinations = list(zip(*self.lengths, strict=True))
        tables = np.zeros((len(combinations), len(description.fields)), np.uint8)
        tables[:, prefixes] = np.array(combinations, np.uint8).reshape(len(combinations), len(prefixes))
        return tables

    def _check_field(self, name: str, bits: int, lengths: tuple[int, ...]) -> None:
        if not lengths:
            raise InvalidArgument("the pool has no length for this field: give 0 to leave it out", name)
        if self.cartesian and len(lengths) > MAX_LENGTHS:
            raise InvalidArgument(f"at most {MAX_LENGTHS} lengths a field, not {len(lengths)}", name)
        for length in lengths:
            if not 0 <= length <= bits:
                raise InvalidArgument(f"prefix length {length} does not fit: 0 to {bits}", name)
