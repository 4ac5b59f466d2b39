# SPDX-License-Identifier: Apache-2.0
"""Which tables a set of rules is hashed into, and which bits of the key are indexed. Pure.

A rule's *tuple* is, for each field, how many leading bits all packets that it matches share: a prefix's length, all
of an exact value, and for a range the common prefix of its bounds. A table's mask takes at most those bits of every
rule in it, so each rule may go into any table whose mask is below its tuple, and the choice is one of cost: each
table costs a probe, and rules that a mask cannot tell apart form a chain.

The choice is the facility location problem: open a table where it saves more than it costs. It is solved greedily
on a sample of the set in canonical order, so it depends on the set and not on how the set came to be.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from .description import MAX_TABLES, Description, Kind
from .rules import Bytes

Words = npt.NDArray[np.uint64]
Lengths = npt.NDArray[np.uint8]

_SAMPLE = 2048
_CANDIDATES = 320
# Costs in units of one more row of a chain looked at; measured with bench/map.py.
_PROBE_COST = 1.5
_UNKNOWN = np.float32(1e9)


@dataclasses.dataclass(frozen=True, slots=True)
class Tables:
    """masks: uint64[tables, words] in element byte order; lengths: uint8[tables, fields]; of_rule: intp[n]."""

    lengths: Lengths
    masks: Words
    of_rule: npt.NDArray[np.intp]


def tuples(description: Description, low: Bytes, high: Bytes) -> Lengths:
    """Leading bits that are the same in all packets of each rule: uint8[n, fields]."""
    lengths = np.empty((len(low), len(description.fields)), np.uint8)
    differ = low ^ high
    for index, (field, offset) in enumerate(zip(description.fields, description.offsets, strict=True)):
        lengths[:, index] = _leading_zeros(differ[:, offset : offset + field.size])
    return lengths


_BITS_BEFORE_FIRST_ONE = np.array([8 - int(byte).bit_length() for byte in range(256)], np.uint8)


def _leading_zeros(field_bytes: Bytes) -> Lengths:
    zeros = np.zeros(len(field_bytes), np.uint8)
    open_still = np.ones(len(field_bytes), np.bool_)
    for column in range(field_bytes.shape[1]):
        byte = field_bytes[:, column]
        zeros += np.where(open_still, _BITS_BEFORE_FIRST_ONE[byte], 0).astype(np.uint8)
        open_still &= byte == 0
    return zeros


def mask_words(description: Description, lengths: Lengths) -> Words:
    """The masks of tuples, as words in element byte order: uint64[m, words]."""
    masks = np.zeros((len(lengths), 8 * description.words), np.uint8)
    for index, (field, offset) in enumerate(zip(description.fields, description.offsets, strict=True)):
        bits = np.arange(field.bits)[None, :] < lengths[:, index].astype(np.intp)[:, None]
        masks[:, offset : offset + field.size] = np.packbits(bits, axis=1)
    return masks.view(np.uint64)


def brute_force(description: Description, count: int) -> Tables:
    """One table that tells nothing apart: a single chain."""
    lengths = np.zeros((1, len(description.fields)), np.uint8)
    return Tables(lengths, mask_words(description, lengths), np.zeros(count, np.intp))


def tuple_merge(description: Description, low: Bytes, high: Bytes, pool: Lengths | None = None) -> Tables:
    """Choose tables for rules in canonical order; ``pool``: the prefix lengths that tables may have."""
    lengths = tuples(description, low, high)
    distinct, of_rule = _distinct(lengths)
    sample = _sample(len(low))
    candidates = _candidates(description, distinct, np.bincount(of_rule, minlength=len(distinct)), pool)
    masks = mask_words(description, candidates)
    cost = _chain_costs(low[sample].view(np.uint64), lengths[sample], candidates, masks, len(low))
    chosen = _open_tables(cost)
    table_of_tuple = _assign(distinct, candidates[chosen], cost[chosen], of_rule[sample])
    used, of_tuple = np.unique(table_of_tuple, return_inverse=True)
    chosen = chosen[used]
    return Tables(candidates[chosen], masks[chosen], of_tuple[of_rule])


def _distinct(lengths: Lengths) -> tuple[Lengths, npt.NDArray[np.intp]]:
    """Distinct tuples and each rule's index among them."""
    width = -(-lengths.shape[1] // 8) * 8
    padded = np.zeros((len(lengths), width), np.uint8)
    padded[:, : lengths.shape[1]] = lengths
    keys = padded.view(np.uint64 if width == 8 else np.dtype((np.void, width))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return lengths[first], inverse


def _sample(count: int) -> npt.NDArray[np.intp]:
    if count <= _SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(count).choice(count, _SAMPLE, replace=False))


def _floor(description: Description) -> Lengths:
    """The least mask that every rule allows: MATCH fields in full, nothing of the others."""
    return np.array([field.bits if field.kind is Kind.MATCH else 0 for field in description.fields], np.uint8)


def _candidates(
    description: Description, distinct: Lengths, weight: npt.NDArray[np.intp], pool: Lengths | None
) -> Lengths:
    """Masks worth a look: the tuples, what pairs of frequent ones share, coarser steps of them, and the floor."""
    by_weight = distinct[np.argsort(-weight, kind="stable")]
    frequent = by_weight[:24]
    pairs = np.minimum(frequent[:, None, :], frequent[None, :, :]).reshape(-1, distinct.shape[1])
    coarse = [by_weight[:120] // step * step for step in (4, 8, 16)]
    open_fields = []
    for index in range(distinct.shape[1]):
        without = frequent.copy()
        without[:, index] = 0
        open_fields.append(without)
    everything = np.concatenate([_floor(description)[None], by_weight, pairs, *coarse, *open_fields])
    everything = np.maximum(everything, _floor(description))
    if pool is not None:
        everything = _from_pool(description, everything, pool)
    _, first = np.unique(everything, axis=0, return_index=True)
    return everything[np.sort(first)][:_CANDIDATES] if pool is None else everything[np.sort(first)]


def _from_pool(description: Description, tuples_seen: Lengths, pool: Lengths) -> Lengths:
    """The pool's prefix lengths with every combination that the tuples show in the other fields, and the floor."""
    is_prefix = np.array([field.kind is Kind.PREFIX for field in description.fields])
    others = np.unique(np.where(is_prefix, 0, tuples_seen), axis=0)
    combined = np.maximum(pool[:, None, :], others[None, :, :]).reshape(-1, len(is_prefix))
    return np.concatenate([_floor(description)[None], combined])


def _chain_costs(
    sample: Words, lengths: Lengths, candidates: Lengths, masks: Words, count: int
) -> npt.NDArray[np.float32]:
    """How long a rule's chain would be in each candidate: float32[candidates, sample]; huge: not allowed there."""
    scale = count / max(len(sample), 1)
    multipliers = np.random.default_rng(1).integers(1, 2**63, sample.shape[1], np.uint64) | np.uint64(1)
    costs = np.full((len(candidates), len(sample)), _UNKNOWN, np.float32)
    for index, (candidate, mask) in enumerate(zip(candidates, masks, strict=True)):
        allowed = np.flatnonzero((lengths >= candidate).all(axis=1))
        if not len(allowed):
            continue
        masked = sample[allowed] & mask
        masked ^= masked >> np.uint64(29)
        keys = (masked * multipliers).sum(axis=1, dtype=np.uint64)
        _, group, size = np.unique(keys, return_inverse=True, return_counts=True)
        costs[index, allowed] = (size[group] - 1) * scale + 1
    return costs


def _open_tables(cost: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Greedy facility location: rows of ``cost`` worth their probe, at most 64; row 0 (the floor) is the start."""
    chosen, current = [0], cost[0].copy()
    worth = _PROBE_COST * cost.shape[1]
    while len(chosen) < MAX_TABLES:
        gains = np.maximum(current - cost, 0).sum(axis=1)
        best = int(np.argmax(gains))
        if gains[best] <= worth:
            break
        chosen.append(best)
        current = np.minimum(current, cost[best])
    return np.array(chosen, np.intp)


def _assign(
    distinct: Lengths, tables: Lengths, cost: npt.NDArray[np.float32], tuple_of_sample: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """The table of each distinct tuple: the shortest chains in the sample; unseen tuples: the most bits."""
    allowed = (distinct[:, None, :] >= tables[None, :, :]).all(axis=2)
    bits = tables.sum(axis=1, dtype=np.intp)
    score = np.where(allowed, (1 - bits / (1 + bits.max())) * 1e-3 + 1, np.inf)
    sums = np.zeros((len(distinct), len(tables)))
    np.add.at(sums, tuple_of_sample, cost.T)
    seen = np.bincount(tuple_of_sample, minlength=len(distinct))
    mean = sums / np.maximum(seen, 1)[:, None]
    score = np.where((seen > 0)[:, None] & allowed, mean + (score - 1), score)
    return np.argmin(score, axis=1)
