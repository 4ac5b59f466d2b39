# SPDX-License-Identifier: Apache-2.0
"""Which bits of the key say beforehand what tables can match. Pure.

A *window* is a run of bits in one word of the key. For each value of these bits an index array holds the
set of tables with a rule that such a packet could match; the sets of a few windows, and-ed, leave few
tables to probe. The windows are chosen for the rules: bits that all rules share tell nothing.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from .description import Description
from .errors import InvalidArgument
from .rules import Bytes, as_numbers

MAX_WINDOWS = 4
# Tables that a window must save a lookup, on average, to be worth its read; measured with bench/map.py.
_WORTH = 0.2
_SAMPLE = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """``bits`` bits of word ``word`` of the key, from bit ``shift`` up; the field has ``above`` more."""

    word: int
    shift: int
    bits: int
    above: int


@dataclasses.dataclass(frozen=True, slots=True)
class Indexed:
    """A window and its table sets: uint64[2 ** bits]."""

    window: Window
    sets: npt.NDArray[np.uint64]


def choose(
    description: Description, low: Bytes, high: Bytes, tables: npt.NDArray[np.intp], bits: int
) -> list[Indexed]:
    """Return up to four windows of at most ``bits`` bits for rules in ``tables`` (at most 64 of them)."""
    count = int(tables.max()) + 1 if len(tables) else 0
    if count <= 1:
        return []
    candidates = [
        Indexed(window, table_sets(window, low, high, tables, count))
        for offset, size in _fields(description)
        for window in _candidates(low, offset, size, bits)
    ]
    step = max(1, len(low) // _SAMPLE)
    packets = low[::step].view(np.uint64).byteswap()
    chosen: list[Indexed] = []
    left = np.full(len(packets), (1 << count) - 1, np.uint64)
    while len(chosen) < MAX_WINDOWS and candidates:
        after = [left & candidate.sets[values(candidate.window, packets)] for candidate in candidates]
        remaining = [float(np.bitwise_count(sets).mean()) for sets in after]
        best = int(np.argmin(remaining))
        if float(np.bitwise_count(left).mean()) - remaining[best] < _WORTH:
            break
        chosen.append(candidates.pop(best))
        left = after[best]
    return chosen


def _fields(description: Description) -> list[tuple[int, int]]:
    """(offset, size) of what windows may lie in: fields, and the halves of fields of 16 bytes."""
    parts = [
        (offset + start, min(field.size, 8))
        for field, offset in zip(description.fields, description.offsets, strict=True)
        for start in range(0, field.size, 8)
    ]
    # A window lies in one word.
    return [(offset, size) for offset, size in parts if offset // 8 == (offset + size - 1) // 8]


def _candidates(low: Bytes, offset: int, size: int, bits: int) -> list[Window]:
    """The first bits of a field, the first that differ among the rules, and the last."""
    field_bits = 8 * size
    width = min(bits, field_bits)
    numbers = as_numbers(low[:, offset : offset + size])
    shared = field_bits - int(np.bitwise_or.reduce(numbers ^ numbers[0])).bit_length()
    starts = {0, min(shared, field_bits - width), field_bits - width}
    base = 8 * (7 - (offset % 8 + size - 1))
    return [Window(offset // 8, base + field_bits - width - start, width, start) for start in sorted(starts)]


def at(description: Description, word: int, shift: int, bits: int) -> Window:
    """Return the window at these bits, with what its field has above it."""
    top = shift + bits
    for offset, size in _fields(description):
        highest = 64 - 8 * (offset % 8)
        if offset // 8 == word and highest - 8 * size <= shift and top <= highest:
            return Window(word, shift, bits, highest - top)
    raise InvalidArgument(f"no field holds {bits} bits from bit {shift} of word {word}")


def values(window: Window, packets: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
    """What packets (uint64[n, words], host order) have in the window."""
    part = packets[:, window.word] >> np.uint64(window.shift)
    return (part & np.uint64((1 << window.bits) - 1)).astype(np.intp)


def table_sets(
    window: Window, low: Bytes, high: Bytes, tables: npt.NDArray[np.intp], count: int
) -> npt.NDArray[np.uint64]:
    """For each value of the window the set of tables with a rule that matches it: uint64[2 ** bits]."""
    size = 1 << window.bits
    least, most = interval(window, low, high)
    row = tables * (size + 1)
    edges = np.bincount(row + least, minlength=count * (size + 1)).astype(np.int32)
    edges -= np.bincount(row + most + 1, minlength=count * (size + 1)).astype(np.int32)
    covered = np.cumsum(edges.reshape(count, size + 1), axis=1)[:, :size] > 0
    sets = np.zeros(size, np.uint64)
    for table in range(count):
        sets |= covered[table].astype(np.uint64) << np.uint64(table)
    return sets


def interval(window: Window, low: Bytes, high: Bytes) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The least and the greatest value that each rule's packets have in the window.

    Where a rule leaves the field's bits above the window open, every value occurs.
    """
    first, last = low.view(np.uint64).byteswap(), high.view(np.uint64).byteswap()
    least, most = values(window, first), values(window, last)
    above = (first[:, window.word] ^ last[:, window.word]) >> np.uint64(window.shift + window.bits)
    spread = (
        (above & np.uint64((1 << window.above) - 1)) != 0 if window.above else np.zeros(len(low), np.bool_)
    )
    return np.where(spread, 0, least), np.where(spread, (1 << window.bits) - 1, most)
