# SPDX-License-Identifier: Apache-2.0
"""Which tables a set of rules is hashed into, and which bits of the key are indexed. Pure.

A rule's *tuple* is, for each field, how many leading bits all packets that it matches share: a prefix's
length, all of an exact value, and for a range the common prefix of its bounds. A table's mask takes at most
those bits of every rule in it, so each rule may go into any table whose mask is below its tuple, and the
choice is one of cost: each table costs a probe, and rules that a mask cannot tell apart form a chain.

The choice is the facility location problem: open a table where it saves more than it costs. It is solved
greedily on a sample of the set in canonical order, so it depends on the set and not on how the set came to
be.
"""

import dataclasses
from typing import cast

import numpy as np
import numpy.typing as npt

from .description import MAX_TABLES, Description, Kind
from .rules import Bytes

Words = npt.NDArray[np.uint64]
Lengths = npt.NDArray[np.uint8]

# Half as many take long chains of 100,000 firewall rules for short ones; twice as many cost time for nothing.
_SAMPLE = 4096
_ROUNDS = 3
# What a table costs, in rows of a chain looked at; measured with bench/map.py.
_PROBE_COST = 0.7
_NOT_ALLOWED = np.float32(1e9)


@dataclasses.dataclass(frozen=True, slots=True)
class Tables:
    """masks: uint64[tables, words], element byte order; lengths: uint8[tables, fields]; of_rule: intp[n]."""

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
    counts = np.bincount(of_rule, minlength=len(distinct))
    sample = _Sample.draw(description, low, high, distinct, of_rule, counts)
    search = _Search(description, sample, pool)
    search.offer(_first_candidates(description, distinct, counts))
    search.open_tables()
    for _ in range(_ROUNDS):
        search.offer(_shared_bits(search.dearest()))
        search.open_tables()
    search.close_tables()
    tables, cost = search.chosen()
    table_of_tuple = _assign(distinct, tables, cost, of_rule[sample.rows])
    used, of_tuple = np.unique(table_of_tuple, return_inverse=True)
    return Tables(tables[used], mask_words(description, tables[used]), of_tuple[of_rule])


def _distinct(lengths: Lengths) -> tuple[Lengths, npt.NDArray[np.intp]]:
    """Distinct tuples and each rule's index among them."""
    width = -(-lengths.shape[1] // 8) * 8
    padded = np.zeros((len(lengths), width), np.uint8)
    padded[:, : lengths.shape[1]] = lengths
    keys = padded.view(np.uint64 if width == 8 else np.dtype((np.void, width))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return lengths[first], inverse


@dataclasses.dataclass(frozen=True, slots=True)
class _Sample:
    """Rules that stand for ``weight`` each, and packets as they may come (uint64[m, words])."""

    rows: npt.NDArray[np.intp]
    anchors: Words
    lengths: Lengths
    weight: npt.NDArray[np.float32]
    packets: Words

    @classmethod
    def draw(
        cls,
        description: Description,
        low: Bytes,
        high: Bytes,
        distinct: Lengths,
        of_rule: npt.NDArray[np.intp],
        counts: npt.NDArray[np.intp],
    ) -> "_Sample":
        """Rules at random, and one of each tuple that chance left out, open ones first: they cost most."""
        rng = np.random.default_rng(len(low))
        drawn = (
            np.arange(len(low))
            if len(low) <= _SAMPLE
            else np.sort(rng.choice(len(low), _SAMPLE, replace=False))
        )
        seen = np.bincount(of_rule[drawn], minlength=len(distinct))
        _, first = np.unique(of_rule, return_index=True)
        missed = np.flatnonzero(seen == 0)
        missed = missed[np.argsort(distinct[missed].sum(axis=1, dtype=np.intp), kind="stable")][
            : _SAMPLE // 2
        ]
        rows = np.concatenate([drawn, first[missed]])
        seen[missed] = 1
        weight = (counts / np.maximum(seen, 1))[of_rule[rows]].astype(np.float32)
        packets = _packets(description, low[drawn], high[drawn])
        return cls(rows, low[rows].view(np.uint64), distinct[of_rule[rows]], weight, packets)


def _floor(description: Description) -> Lengths:
    """The least mask that every rule allows: MATCH fields in full, nothing of the others."""
    return np.array([field.bits if field.kind is Kind.MATCH else 0 for field in description.fields], np.uint8)


def _first_candidates(description: Description, distinct: Lengths, counts: npt.NDArray[np.intp]) -> Lengths:
    """Masks worth a look: frequent tuples, what pairs of them share, and coarse steps of all."""
    by_count = distinct[np.argsort(-counts, kind="stable")]
    coarse = [np.unique(distinct // step * step, axis=0)[:64] for step in (8, 16)]
    return np.concatenate([_floor(description)[None], by_count[:96], _shared_bits(by_count[:16]), *coarse])


def _from_pool(description: Description, tuples_seen: Lengths, pool: Lengths) -> Lengths:
    """The pool's lengths with every combination that the tuples show in other fields, and the floor."""
    is_prefix = np.array([field.kind is Kind.PREFIX for field in description.fields])
    others = np.unique(np.where(is_prefix, 0, tuples_seen), axis=0)
    combined = np.maximum(pool[:, None, :], others[None, :, :]).reshape(-1, len(is_prefix))
    return np.concatenate([_floor(description)[None], combined])


def _shared_bits(several: Lengths) -> Lengths:
    """Tuples, and what each two of them have in common."""
    left, right = np.triu_indices(len(several))
    return np.minimum(several[left], several[right])


def _packets(description: Description, low: Bytes, high: Bytes) -> Words:
    """Packets as they may come: one in each rule's box; an open field has another rule's value or any."""
    rng = np.random.default_rng(2)
    count = len(low)
    packets = low | (rng.integers(0, 256, low.shape, np.uint8) & (low ^ high))
    for field, offset in zip(description.fields, description.offsets, strict=True):
        columns = slice(offset, offset + field.size)
        is_open = (low[:, columns] == 0).all(axis=1) & (high[:, columns] == 255).all(axis=1)
        borrowed = is_open & (rng.random(count) < 0.75)
        packets[borrowed, columns] = packets[rng.integers(0, count, int(borrowed.sum())), columns]
    return cast("Words", packets.view(np.uint64))


class _Search:
    """Greedy facility location: candidates, what each costs each rule of the sample, and those that are open.

    Every packet with the masked key of a rule walks over the rule, whether or not it matches; so the cost
    of a rule in a table is the share of packets that do, times the rules that it stands for. Summed up it
    is rows a packet.
    """

    def __init__(self, description: Description, sample: _Sample, pool: Lengths | None) -> None:
        self._description, self._sample, self._pool = description, sample, pool
        self._candidates = np.zeros((0, len(description.fields)), np.uint8)
        self._cost = np.zeros((0, len(sample.rows)), np.float32)
        self._open: list[int] = []

    def offer(self, candidates: Lengths) -> None:
        """Add candidates; the first one ever offered is open from the start."""
        if self._pool is not None:
            candidates = _from_pool(self._description, candidates, self._pool)
        both = np.concatenate([self._candidates, np.maximum(candidates, _floor(self._description))])
        _, first = np.unique(both, axis=0, return_index=True)
        new = both[np.sort(first[first >= len(self._candidates)])]
        self._cost = np.concatenate([self._cost, self._costs(new)])
        self._candidates = np.concatenate([self._candidates, new])
        self._open = self._open or [0]

    def _costs(self, candidates: Lengths) -> npt.NDArray[np.float32]:
        sample = self._sample
        multipliers = np.random.default_rng(1).integers(
            1, 2**63, sample.anchors.shape[1], np.uint64
        ) | np.uint64(1)
        costs = np.full((len(candidates), len(sample.rows)), _NOT_ALLOWED, np.float32)
        masks = mask_words(self._description, candidates)
        for index, (candidate, mask) in enumerate(zip(candidates, masks, strict=True)):
            allowed = np.flatnonzero((sample.lengths >= candidate).all(axis=1))
            if len(allowed):
                of_packets = np.sort(_keys(sample.packets & mask, multipliers))
                of_rules = _keys(sample.anchors[allowed] & mask, multipliers)
                walks = np.searchsorted(of_packets, of_rules, "right") - np.searchsorted(of_packets, of_rules)
                # The rule's own packet has to walk over it wherever it is.
                others = np.maximum(walks - 1, 0) / len(of_packets)
                costs[index, allowed] = others * sample.weight[allowed]
        return costs

    def _current(self) -> npt.NDArray[np.float32]:
        current: npt.NDArray[np.float32] = self._cost[self._open].min(axis=0)
        return current

    def open_tables(self) -> None:
        """Open the candidate that saves most, until none is worth its probe or 64 are open."""
        current = self._current()
        while len(self._open) < MAX_TABLES:
            gains = np.maximum(current - self._cost, 0).sum(axis=1)
            best = int(np.argmax(gains))
            if gains[best] <= _PROBE_COST:
                return
            self._open.append(best)
            current = np.minimum(current, self._cost[best])

    def close_tables(self) -> None:
        """Close tables that later ones made superfluous; the first stays, for rules that fit no other."""
        for table in self._open[1:]:
            others = [other for other in self._open if other != table]
            if self._cost[others].min(axis=0).sum() - self._current().sum() <= _PROBE_COST:
                self._open = others

    def dearest(self) -> Lengths:
        """The tuples whose rules cost most as things stand."""
        order = np.argsort(-self._current())[:128]
        found = self._sample.lengths[order]
        _, first = np.unique(found, axis=0, return_index=True)
        return found[np.sort(first)][:16]

    def chosen(self) -> tuple[Lengths, npt.NDArray[np.float32]]:
        """The open tables and what they cost the sample's rules."""
        return self._candidates[self._open], self._cost[self._open]


def _keys(masked: Words, multipliers: Words) -> Words:
    masked ^= masked >> np.uint64(29)
    keys: Words = (masked * multipliers).sum(axis=1, dtype=np.uint64)
    return keys


def _assign(
    distinct: Lengths, tables: Lengths, cost: npt.NDArray[np.float32], tuple_of_sample: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """The table of each distinct tuple: the least cost in the sample; unseen tuples: the most bits."""
    allowed = (distinct[:, None, :] >= tables[None, :, :]).all(axis=2)
    bits = tables.sum(axis=1, dtype=np.intp)
    score = np.where(allowed, (1 - bits / (1 + bits.max())) * 1e-3 + 1, np.inf)
    sums = np.zeros((len(distinct), len(tables)))
    np.add.at(sums, tuple_of_sample, cost.T)
    seen = np.bincount(tuple_of_sample, minlength=len(distinct))
    mean = sums / np.maximum(seen, 1)[:, None]
    score = np.where((seen > 0)[:, None] & allowed, mean + (score - 1), score)
    return cast("npt.NDArray[np.intp]", np.argmin(score, axis=1))
