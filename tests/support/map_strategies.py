# SPDX-License-Identifier: Apache-2.0
"""Random descriptions, rules that overlap, and packets near their edges, for property tests.

Hypothesis chooses the description, the sizes and a seed; numpy makes the rules and packets from the seed, so
a case of a thousand packets costs a few draws and the failing example is still reproducible.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from support.brute import Entry, Item, span, spans
from wildcard_operator.wildcardmap import ANY, Description, Field, Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

MAX_KEY_SIZE = 128
PRIORITIES = (0, 1, 7, 2**31, 2**32 - 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """Entries that differ in (rule, priority, order), and packets for them."""

    description: Description
    entries: list[Entry]
    packets: npt.NDArray[np.uint8] = dataclasses.field(repr=False)


@st.composite
def fields(draw: st.DrawFn, name: str) -> Field:
    kind = draw(st.sampled_from(list(Kind)))
    return Field(name, kind, draw(st.sampled_from(kind.sizes)))


@st.composite
def descriptions(draw: st.DrawFn, max_fields: int = 9) -> Description:
    """1 to 9 fields of any kind and size; the key stays within its limit because 9 fields of 16 would not."""
    chosen: list[Field] = []
    for index in range(draw(st.integers(1, max_fields))):
        drawn = draw(fields(f"f{index}"))
        if sum(other.size for other in chosen) + drawn.size <= MAX_KEY_SIZE:
            chosen.append(drawn)
    return Description(tuple(chosen))


@st.composite
def cases(draw: st.DrawFn, max_rules: int = 60, packets: int = 256) -> Case:
    description = draw(descriptions())
    count = draw(st.integers(0, max_rules))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    entries = make_entries(rng, description, count, draw(st.sampled_from([1, 2, 5])))
    return Case(description, entries, make_packets(rng, description, entries, packets))


def make_entries(
    rng: np.random.Generator, description: Description, count: int, priorities: int = 5
) -> list[Entry]:
    """Up to `count` entries with the first few PRIORITIES, orders 0 to 2, fields from a few values each."""
    pools = [_pool(rng, field) for field in description.fields]
    made: dict[tuple[object, ...], Entry] = {}  # (0, 0) and ANY are one rule
    for _ in range(count):
        rule = tuple(_item(rng, field, pool) for field, pool in zip(description.fields, pools, strict=True))
        entry = Entry(rule, PRIORITIES[rng.integers(priorities)], int(rng.integers(3)))
        made.setdefault((spans(description, rule), entry.priority, entry.order), entry)
    return list(made.values())


def make_packets(
    rng: np.random.Generator, description: Description, entries: Sequence[Entry], count: int
) -> npt.NDArray[np.uint8]:
    """uint8[count, key size]: most fields at, inside or just beside the bounds of one entry's rule."""
    chosen = rng.integers(0, max(1, len(entries)), count)
    columns = []
    for index, field in enumerate(description.fields):
        noise = rng.integers(0, 256, (count, field.size), np.uint8)
        if not entries:
            columns.append(noise)
            continue
        points = [_points(field, span(field, entry.rule[index])) for entry in entries]
        table = np.frombuffer(b"".join(b"".join(row) for row in points), np.uint8)
        table = table.reshape(len(entries), -1, field.size)
        # The first three points lie inside; the other two beside the bounds.
        inside = rng.random(count) < 0.9
        point = np.where(inside, rng.integers(0, 3, count), rng.integers(3, 5, count))
        other = np.where(rng.random(count) < 0.05, rng.integers(0, len(entries), count), chosen)
        columns.append(np.where(rng.random((count, 1)) < 0.03, noise, table[other, point]))
    return np.concatenate(columns, axis=1)


def _pool(rng: np.random.Generator, field: Field) -> list[int]:
    """A few values that rules of this field are made of, the extremes among them now and then."""
    count = int(rng.integers(1, 5))
    pool = [int.from_bytes(rng.bytes(field.size), "big") for _ in range(count)]
    if rng.random() < 0.3:
        pool += [0, 2**field.bits - 1]
    return pool


def _item(rng: np.random.Generator, field: Field, pool: list[int]) -> Item:
    value = pool[rng.integers(len(pool))]
    if field.kind is Kind.MATCH:
        return value
    if rng.random() < 0.15:
        return ANY
    if field.kind is Kind.WILDCARD_MATCH:
        return value
    if field.kind is Kind.PREFIX:
        length = int(rng.choice([0, field.bits, rng.integers(0, field.bits + 1)], p=[0.1, 0.3, 0.6]))
        return value >> (field.bits - length) << (field.bits - length), length
    low, high = sorted((value, _near(rng, field, value)))
    return low, high


def _near(rng: np.random.Generator, field: Field, value: int) -> int:
    """Another value at a distance of any magnitude; often none."""
    distance = int(rng.integers(0, 2)) * (1 << int(rng.integers(0, field.bits))) - int(rng.integers(0, 2))
    sign = 1 if rng.random() < 0.5 else -1
    return min(max(value + sign * distance, 0), 2**field.bits - 1)


def _points(field: Field, bounds: tuple[int, int]) -> list[bytes]:
    low, high = bounds
    middle = (low + high) // 2
    wrapped = 2**field.bits
    points = (low, high, middle, (low - 1) % wrapped, (high + 1) % wrapped)
    return [point.to_bytes(field.size, "big") for point in points]
