# SPDX-License-Identifier: Apache-2.0
"""From entries to an image: all that a commit writes when it builds anew. No kernel, no shared memory."""

import dataclasses
import enum

import numpy as np
import numpy.typing as npt

from . import hashing, plan, windows
from .description import MAX_TABLES, Description, Kind
from .errors import InvalidArgument
from .rules import RuleArrays, decode_rule
from .storage import TABLE_PLACES, Image, Shape

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.uint64]

PROBES_AT_ONCE = 4
DIRECT_LIMIT = 32
"""So many entries and fewer are looked at one by one: each is a table of its own, and the index picks."""


class Algorithm(enum.StrEnum):
    """How entries are found. All give the same answer."""

    AUTO = "auto"
    BRUTE_FORCE = "bf"
    TUPLE_MERGE = "tm"
    STATIC_TUPLE_MERGE = "tm-static"


@dataclasses.dataclass(frozen=True, slots=True)
class Built:
    """An image's contents. ``order`` says which entry (of those given) each row from 1 on holds."""

    rows: npt.NDArray[np.void]
    lengths: plan.Lengths
    masks: Words
    table_seeds: Words
    best: Places
    direct: bool
    seeds: npt.NDArray[np.uint32]
    heads: npt.NDArray[np.uint32]
    filters: npt.NDArray[np.uint32]
    used_buckets: npt.NDArray[np.intp]
    windows: list[windows.Indexed]


def canonical_order(arrays: RuleArrays) -> npt.NDArray[np.intp]:
    """The total order: priority, order, then the rule's bytes."""
    head = arrays.priority.astype(np.uint64) << np.uint64(32) | arrays.order
    order = np.argsort(head, kind="stable")
    in_order = head[order]
    if (in_order[1:] != in_order[:-1]).all():
        return order
    low, high = (part.view(np.uint64).byteswap() for part in (arrays.low, arrays.high))
    return np.lexsort([*high.T[::-1], *low.T[::-1], head])


def _refuse_twins(arrays: RuleArrays) -> None:
    """Entries in canonical order: twins are neighbours."""
    same = (arrays.priority[1:] == arrays.priority[:-1]) & (arrays.order[1:] == arrays.order[:-1])
    near = np.flatnonzero(same)
    equal = (arrays.low[near] == arrays.low[near + 1]).all(axis=1) & (
        arrays.high[near] == arrays.high[near + 1]
    ).all(axis=1)
    if equal.any():
        first = int(near[np.flatnonzero(equal)[0]])
        rule = decode_rule(arrays.description, arrays.low[first].tobytes(), arrays.high[first].tobytes())
        raise InvalidArgument(
            f"two entries are {rule} at priority {arrays.priority[first]}, order {arrays.order[first]}"
        )


def places(priority: npt.NDArray[np.uint32]) -> Places:
    """Places of entries in canonical order: those of one priority are spaced evenly up to the next."""
    count = len(priority)
    starts = (
        np.flatnonzero(np.concatenate([[True], priority[1:] != priority[:-1]]))
        if count
        else np.array([], np.intp)
    )
    sizes = np.diff(np.append(starts, count))
    rank = np.arange(count) - np.repeat(starts, sizes)
    step = np.uint64(1 << 32) // (sizes.astype(np.uint64) + np.uint64(1))
    return priority.astype(np.uint64) << np.uint64(32) | (rank.astype(np.uint64) + np.uint64(1)) * np.repeat(
        step, sizes
    )


def encode_rows(shape: Shape, arrays: RuleArrays) -> npt.NDArray[np.void]:
    """Rows with everything but place, chain and table."""
    description = shape.description
    rows = np.zeros(len(arrays), shape.row_type)
    exact = field_mask(description, range_fields=False)
    mask = ~(arrays.low ^ arrays.high) & exact
    rows["mask"] = mask.view(np.uint64)
    rows["value"] = (arrays.low & mask).view(np.uint64)
    rows["id"] = arrays.rule_id
    rows["order"] = arrays.order
    at = 0
    for index in description.ranges:
        low, high = (_field_numbers(description, index, part) for part in (arrays.low, arrays.high))
        if description.fields[index].size <= 2:
            rows["bounds"][:, at] = low | (high - low) << np.uint64(16)
            at += 1
        else:
            rows["bounds"][:, at : at + 4] = np.stack([low, high - low], axis=1).view(np.uint32)
            at += 4
    if shape.value_size:
        rows["user"][:, : shape.value_size] = arrays.value
    return rows


def decode_rows(shape: Shape, rows: npt.NDArray[np.void]) -> RuleArrays:
    """The entries of rows, in their order; the inverse of ``encode_rows``."""
    description = shape.description
    value = np.ascontiguousarray(rows["value"]).view(np.uint8)
    mask = np.ascontiguousarray(rows["mask"]).view(np.uint8)
    low = value.copy()
    high = value | (~mask & field_mask(description, range_fields=False))
    at = 0
    for index in description.ranges:
        field, offset = description.fields[index], description.offsets[index]
        if field.size <= 2:
            both = rows["bounds"][:, at]
            least, span = both & np.uint32(0xFFFF), both >> np.uint32(16)
            at += 1
        else:
            least, span = np.ascontiguousarray(rows["bounds"][:, at : at + 4]).view(np.uint64).T
            at += 4
        for part, numbers in ((low, least), (high, least + span)):
            packed = numbers.astype(f">u{field.size}").view(np.uint8).reshape(len(rows), field.size)
            part[:, offset : offset + field.size] = packed
    user = rows["user"][:, : shape.value_size] if shape.value_size else np.zeros((len(rows), 0), np.uint8)
    priority = (rows["place"] >> np.uint64(32)).astype(np.uint32)
    return RuleArrays(description, low, high, priority, rows["order"].copy(), rows["id"].copy(), user.copy())


def field_mask(description: Description, *, range_fields: bool) -> npt.NDArray[np.uint8]:
    """All ones in the fields that masks speak of, in the ranges too where wanted; zeros in the padding."""
    mask = np.zeros(8 * description.words, np.uint8)
    for field, offset in zip(description.fields, description.offsets, strict=True):
        if range_fields or field.kind is not Kind.RANGE:
            mask[offset : offset + field.size] = 0xFF
    return mask


def _field_numbers(description: Description, index: int, elements: npt.NDArray[np.uint8]) -> Words:
    offset, size = description.offsets[index], description.fields[index].size
    return (
        np.ascontiguousarray(elements[:, offset : offset + size]).view(f">u{size}").ravel().astype(np.uint64)
    )


def build(shape: Shape, arrays: RuleArrays, algorithm: Algorithm, pool: plan.Lengths | None) -> Built:
    """Build the image of these entries. Depends on the set (and random seeds), not on the order given."""
    arrays = arrays.take(canonical_order(arrays))
    _refuse_twins(arrays)
    count = len(arrays)
    small = count <= DIRECT_LIMIT and algorithm in (Algorithm.AUTO, Algorithm.BRUTE_FORCE)
    rows = np.zeros(count + 1, shape.row_type)
    rows[1:] = encode_rows(shape, arrays)
    rows["place"][1:] = places(arrays.priority)
    if small or not count:
        return _direct(shape, arrays, rows)
    if algorithm is Algorithm.BRUTE_FORCE:
        tables = plan.brute_force(shape.description, count)
    else:
        tables = plan.tuple_merge(shape.description, arrays.low, arrays.high, pool)
    return _hashed(shape, arrays, rows, _by_best(tables))


def _by_best(tables: plan.Tables) -> plan.Tables:
    """Number the tables by their best entry: rules are in canonical order, so by their first."""
    _, first = np.unique(tables.of_rule, return_index=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.intp)
    rank[order] = np.arange(len(order))
    return plan.Tables(tables.lengths[order], tables.masks[order], rank[tables.of_rule])


def _direct(shape: Shape, arrays: RuleArrays, rows: npt.NDArray[np.void]) -> Built:
    count = len(arrays)
    rows["table"][1:] = np.arange(1, count + 1)
    chosen = windows.choose(shape.description, arrays.low, arrays.high, np.arange(count), shape.window_bits)
    return Built(
        rows=rows,
        lengths=np.zeros((0, len(shape.description.fields)), np.uint8),
        masks=np.zeros((count, shape.description.words), np.uint64),
        table_seeds=np.arange(1, count + 1, dtype=np.uint64),
        best=rows["place"][1:],
        direct=True,
        seeds=hashing.new_seeds(),
        heads=np.array([], np.uint32),
        filters=np.array([], np.uint32),
        used_buckets=np.array([], np.intp),
        windows=chosen,
    )


def _hashed(shape: Shape, arrays: RuleArrays, rows: npt.NDArray[np.void], tables: plan.Tables) -> Built:
    seeds = hashing.new_seeds()
    count = len(tables.masks)
    table_seeds = np.array([hashing.new_table_seed() for _ in range(count)], np.uint64)
    masked = arrays.low.view(np.uint64) & tables.masks[tables.of_rule]
    hashed = hashing.hashes(seeds, table_seeds[tables.of_rule], masked)
    bucket = (hashed & np.uint32(shape.buckets - 1)).astype(np.intp)
    order = np.argsort(bucket, kind="stable")  # within a bucket the canonical order stays
    _, first = np.unique(tables.of_rule, return_index=True)
    best = rows["place"][1:][first]
    rows["table"][1:] = tables.of_rule + 1
    rows[1:] = rows[1:][order]
    sorted_bucket = bucket[order]
    ends = np.append(sorted_bucket[1:] != sorted_bucket[:-1], True)
    rows["next"][1:] = np.where(ends, 0, np.arange(2, len(order) + 2))
    starts = np.flatnonzero(np.append(True, sorted_bucket[1:] != sorted_bucket[:-1]))
    bits = np.uint32(1) << (hashed[order] >> np.uint32(27))
    return Built(
        rows=rows,
        lengths=tables.lengths,
        masks=tables.masks,
        table_seeds=table_seeds,
        best=best,
        direct=False,
        seeds=seeds,
        heads=(starts + 1).astype(np.uint32),
        filters=np.bitwise_or.reduceat(bits, starts),
        used_buckets=sorted_bucket[starts],
        windows=windows.choose(shape.description, arrays.low, arrays.high, tables.of_rule, shape.window_bits),
    )


def write(image: Image, built: Built) -> None:
    """Write an image that nobody reads."""
    image.clear()
    head, count = image.head, len(built.masks)
    image.rows[: len(built.rows)] = built.rows
    image.rows["table"][len(built.rows) :] = 0
    image.buckets[:] = 0
    for part, of_chain in (
        ("place", built.rows["place"][built.heads]),
        ("row", built.heads),
        ("filter", built.filters),
    ):
        image.buckets[part][built.used_buckets] = of_chain
    tables, at = image.tables, TABLE_PLACES[:count]
    tables["best"][at] = built.best
    tables["rest"][at] = np.minimum.accumulate(built.best[::-1])[::-1]
    tables["seed"][at] = built.table_seeds
    tables["mask"][at] = built.masks
    head["tables"] = np.uint64(0xFFFFFFFFFFFFFFFF >> (MAX_TABLES - count)) if count else 0
    head["direct"] = built.direct
    head["chunk"] = min(count, PROBES_AT_ONCE)
    head["bucket_mask"] = len(image.buckets) - 1
    head["seed"] = built.seeds
    head["windows"] = len(built.windows)
    start = 0
    for number, indexed in enumerate(built.windows):
        window = indexed.window
        head["window"][0, number] = (
            window.word,
            window.shift,
            (1 << window.bits) - 1,
            image.index_base + start,
        )
        image.index[start : start + len(indexed.sets)] = indexed.sets
        start += len(indexed.sets)
