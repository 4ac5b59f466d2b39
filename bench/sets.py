# SPDX-License-Identifier: Apache-2.0
"""Rule sets and packets to measure a classifier with, from a seed: the same arguments give the same arrays.

A set is held as boxes. Row ``i`` of ``low`` and ``high`` (uint8[n, key_size], fields side by side, network
order) are the least and the greatest packet of rule ``i``, field by field, so a packet matches where
``low <= packet <= high`` holds in every field, whatever the field's kind. ``lengths`` (uint8[n, fields]) are
the exact leading bits of a field: a prefix's length, all of a match, 0 or all of an `any`, 0 of a range.

Shapes, each for IPv4 (family 4) and IPv6 (family 6):

- ``acl``: an access list. Hosts and subnets of nested sites; source ports open, target ports mostly exact.
- ``fw``: a firewall. One end is often open, ports are ranges on both sides, many lengths.
- ``netpol``: pairs of pods, up to 64 x 64, with the ports that each pair may use, mostly exact.
- ``policy``: the entries that this project's compiler makes: scope, peer class, addresses, ports, protocol.

Priorities are the rules' places: specific rules tend to stand before general ones, as in a list that people
keep, but not strictly. The default deny of a ``policy`` scope stands after all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Ints = npt.NDArray[np.int64]
    Generator = Callable[[np.random.Generator, int, int], "Boxes"]

FAMILIES = (4, 6)
SIZES = (16, 1_000, 10_000, 100_000)
ORDERS = ("specific-first", "general-first", "shuffled")

TCP, UDP, ICMP = 6, 17, 1
WELL_KNOWN = np.array([21, 22, 25, 53, 67, 80, 110, 123, 143, 161, 389, 443, 445, 514, 587, 636, 993, 995])
REGISTERED = np.array([1433, 1521, 2049, 2379, 3306, 3389, 5060, 5432, 5672, 6379, 6443, 8080, 8443, 9090])
PORTS = np.concatenate([WELL_KNOWN, REGISTERED])


@dataclass(frozen=True, slots=True)
class Boxes:
    """A rule set as boxes; see the module."""

    description: str
    low: Bytes
    high: Bytes
    lengths: Bytes
    priority: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.low)

    @property
    def fields(self) -> list[tuple[str, int, int]]:
        """(kind, size in bytes, offset in the key) of each field."""
        fields, offset = [], 0
        for text in self.description.split(","):
            kind = text.rstrip("0123456789")
            size = int(text[len(kind) :])
            fields.append((kind, size, offset))
            offset += size
        return fields

    def take(self, rows: Ints) -> Boxes:
        """The rules of `rows`, in that order, with their priorities."""
        return replace(
            self,
            low=self.low[rows],
            high=self.high[rows],
            lengths=self.lengths[rows],
            priority=self.priority[rows],
        )


def make_rules(shape: str, family: int, count: int, seed: int = 1) -> Boxes:
    """`count` different rules of a shape (one of SHAPES) and family (4 or 6), specific first."""
    rng = np.random.default_rng([seed, count, family, sorted(SHAPES).index(shape)])
    made = SHAPES[shape](rng, family, count)
    _, first = np.unique(np.concatenate([made.low, made.high], axis=1), axis=0, return_index=True)
    while len(first) < count:  # rare: the generators draw from far more rules than are asked for
        more = SHAPES[shape](rng, family, count)
        made = Boxes(
            made.description,
            np.concatenate([made.low, more.low]),
            np.concatenate([made.high, more.high]),
            np.concatenate([made.lengths, more.lengths]),
            np.concatenate([made.priority, more.priority]),
        )
        _, first = np.unique(np.concatenate([made.low, made.high], axis=1), axis=0, return_index=True)
    kept = made.take(np.sort(rng.permutation(first)[:count]))
    # Before the noise, a rule's rank is the bits it fixes; a list kept by people is only roughly so.
    rank = _fixed_bits(kept) + rng.normal(0, 8, count) - 1000.0 * kept.priority
    sorted_rules = kept.take(np.argsort(-rank, kind="stable"))
    return replace(sorted_rules, priority=np.arange(count, dtype=np.uint32))


def reorder(rules: Boxes, order: str, seed: int = 1) -> Boxes:
    """The same rules with the same priorities, in another order of insertion (one of ORDERS)."""
    rows = np.arange(len(rules))
    if order == "general-first":
        rows = rows[::-1].copy()
    elif order == "shuffled":
        np.random.default_rng(seed).shuffle(rows)
    elif order != "specific-first":
        raise ValueError(f"unknown order {order!r}: one of {', '.join(ORDERS)}")
    return rules.take(rows)


def make_packets(rules: Boxes, count: int = 4096, hits: float = 0.9, seed: int = 1) -> Bytes:
    """uint8[count, key_size]: a share `hits` lies in some rule, the rest in none, in random order.

    A hit is a random point of a rule drawn uniformly. A miss mixes fields of different rules and random
    ones, which costs a classifier more than noise does. A set that covers all gives fewer misses.
    """
    rng = np.random.default_rng([seed, count])
    wanted = count - round(count * hits)
    misses = np.empty((0, rules.low.shape[1]), np.uint8)
    for _ in range(32):
        if len(misses) >= wanted:
            break
        tried = _mixed(rng, rules, 2 * wanted)
        misses = np.concatenate([misses, tried[~matches_any(rules, tried)]])
    misses = misses[:wanted]
    packets = np.concatenate([_points(rng, rules, rng.integers(0, len(rules), count - len(misses))), misses])
    rng.shuffle(packets)
    return packets


def matches_any(rules: Boxes, packets: Bytes) -> npt.NDArray[np.bool_]:
    """bool[len(packets)]: whether any rule holds each packet, by looking at every rule."""
    columns = [words(rules.low, rules), words(rules.high, rules)]
    found = np.zeros(len(packets), bool)
    for row, packet in enumerate(zip(*words(packets, rules), strict=True)):
        left = np.arange(len(rules))
        for low, high, value in zip(*columns, packet, strict=True):
            left = left[(low[left] <= value) & (value <= high[left])]
        found[row] = len(left) > 0
    return found


def words(rows: Bytes, rules: Boxes) -> list[npt.NDArray[np.uint64]]:
    """One array a field whose items compare as its bytes do; two for a field of 16 bytes."""
    words = []
    for _, size, offset in rules.fields:
        for part in range(0, size, 8):
            width = min(8, size)
            column = np.zeros((len(rows), 8), np.uint8)
            column[:, 8 - width :] = rows[:, offset + part : offset + part + width]
            words.append(column.view(">u8")[:, 0].astype(np.uint64))
    return words


def _points(rng: np.random.Generator, rules: Boxes, rows: Ints) -> Bytes:
    """A random packet of each rule named by `rows`."""
    low, high = rules.low[rows], rules.high[rows]
    packets: Bytes = low | (rng.integers(0, 256, low.shape, np.uint8) & (low ^ high))
    for kind, size, offset in rules.fields:
        if kind == "range":  # the bits that differ do not make a range
            start, end = (_number(side[:, offset : offset + size]) for side in (low, high))
            packets[:, offset : offset + size] = _bytes(rng.integers(start, end + 1), size)
    return packets


def _mixed(rng: np.random.Generator, rules: Boxes, count: int) -> Bytes:
    """Packets whose every field comes from a rule of its own, or (one in four) is random."""
    packets = np.empty((count, rules.low.shape[1]), np.uint8)
    for _, size, offset in rules.fields:
        points = _points(rng, rules, rng.integers(0, len(rules), count))[:, offset : offset + size]
        noise = rng.integers(0, 256, (count, size), np.uint8)
        packets[:, offset : offset + size] = np.where(rng.random((count, 1)) < 0.25, noise, points)
    return packets


def _fixed_bits(rules: Boxes) -> npt.NDArray[np.float64]:
    bits: npt.NDArray[np.float64] = rules.lengths.sum(axis=1).astype(np.float64)
    for kind, size, offset in rules.fields:
        if kind == "range":
            low, high = (_number(side[:, offset : offset + size]) for side in (rules.low, rules.high))
            bits += 8 * size - np.log2(high - low + 1)
    return bits


def _number(columns: Bytes) -> Ints:
    value = np.zeros(len(columns), np.int64)
    for column in columns.T:
        value = value << 8 | column
    return value


def _bytes(values: Ints, size: int) -> Bytes:
    return values.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - size :]


# Columns: each gives (low, high, exact leading bits) of one field for all the rules.

Column = tuple["Bytes", "Bytes", "Ints"]


def _prefix(addresses: Bytes, lengths: Ints) -> Column:
    bits = np.clip(lengths[:, None] - 8 * np.arange(addresses.shape[1]), 0, 8)
    mask = (0xFF00 >> bits & 0xFF).astype(np.uint8)
    return addresses & mask, addresses | ~mask, lengths


def _range(low: Ints, high: Ints) -> Column:
    return _bytes(low, 2), _bytes(high, 2), np.zeros(len(low), np.int64)


def _exact(values: Ints, size: int) -> Column:
    return _bytes(values, size), _bytes(values, size), np.full(len(values), 8 * size)


def _any(values: Ints, is_open: npt.NDArray[np.bool_]) -> Column:
    low = np.where(is_open, 0, values)
    return _bytes(low, 1), _bytes(np.where(is_open, 255, values), 1), np.where(is_open, 0, 8)


def _boxes(description: str, columns: list[Column], last: npt.NDArray[np.bool_] | None = None) -> Boxes:
    lows, highs, lengths = zip(*columns, strict=True)
    priority = np.zeros(len(lows[0]), np.uint32) if last is None else last.astype(np.uint32)
    return Boxes(
        description,
        np.concatenate(lows, axis=1),
        np.concatenate(highs, axis=1),
        np.stack(lengths, axis=1).astype(np.uint8),
        priority,
    )


def _five_tuple(family: int) -> str:
    size = 4 if family == 4 else 16
    return f"prefix{size},prefix{size},range2,range2,any1"


def _sites(rng: np.random.Generator, family: int, sites: int, count: int) -> Bytes:
    """Addresses of `sites` sites (a /16 or a /48 each) with 16 subnets (a /24 or /64) of up to 62 hosts."""
    size, network = (4, 2) if family == 4 else (16, 6)
    heads = rng.integers(0, 256, (sites, network), np.uint8)
    heads[:, 0] = rng.choice([10, 100, 172, 192], sites) if family == 4 else 0x20
    addresses = np.zeros((count, size), np.uint8)
    addresses[:, :network] = heads[rng.integers(0, sites, count)]
    addresses[:, network if family == 4 else 7] = rng.integers(0, 16, count) * 16
    addresses[:, -1] = rng.integers(1, 63, count)
    return addresses


def _lengths(rng: np.random.Generator, family: int, count: int, weights: dict[int, float]) -> Ints:
    """Prefix lengths drawn from IPv4 ones; IPv6 has a /128 for a /32, a /64 for a /24, a /48 for a /16."""
    share = np.array(list(weights.values())) / sum(weights.values())
    v4: Ints = rng.choice(list(weights), count, p=share)
    if family == 4:
        return v4
    return np.interp(v4, [0, 8, 16, 24, 32], [0, 32, 48, 64, 128]).astype(np.int64)


def _ports(rng: np.random.Generator, count: int, weights: tuple[float, float, float, float]) -> Column:
    """Ports: weights of (any, 1024 and above, an exact one, a short range)."""
    kind = rng.choice(4, count, p=weights)
    exact = np.where(rng.random(count) < 0.6, rng.choice(PORTS, count), rng.integers(1024, 65536, count))
    start = rng.integers(1024, 60000, count)
    low = np.choose(kind, [np.zeros(count, np.int64), np.full(count, 1024), exact, start])
    end = start + 2 ** rng.integers(1, 11, count) - rng.integers(0, 2, count)
    return _range(low, np.choose(kind, [np.full(count, 65535), np.full(count, 65535), exact, end]))


def _protocols(rng: np.random.Generator, count: int, open_share: float) -> Column:
    return _any(rng.choice([TCP, UDP, ICMP], count, p=[0.75, 0.2, 0.05]), rng.random(count) < open_share)


def _acl(rng: np.random.Generator, family: int, count: int) -> Boxes:
    made = count + count // 4 + 16
    sites = max(4, count // 500)
    sources = {0: 10.0, 8: 2, 16: 6, 20: 2, 21: 2, 22: 3, 23: 3, 24: 22, 26: 4, 27: 4, 28: 8, 30: 3, 32: 31}
    targets = {16: 2.0, 20: 1, 22: 2, 23: 2, 24: 15, 26: 3, 27: 4, 28: 5, 29: 3, 30: 3, 32: 60}
    return _boxes(
        _five_tuple(family),
        [
            _prefix(_sites(rng, family, 4 * sites, made), _lengths(rng, family, made, sources)),
            _prefix(_sites(rng, family, sites, made), _lengths(rng, family, made, targets)),
            _ports(rng, made, (1.0, 0.0, 0.0, 0.0)),
            _ports(rng, made, (0.15, 0.05, 0.65, 0.15)),
            _protocols(rng, made, 0.08),
        ],
    )


def _fw(rng: np.random.Generator, family: int, count: int) -> Boxes:
    made = count + count // 4 + 16
    sites = max(4, count // 200)
    sources = {0: 45.0, 8: 1, 12: 1, 16: 6, 18: 1, 20: 2, 22: 4, 24: 12, 25: 1, 26: 2, 28: 3, 30: 2, 32: 20}
    targets = {0: 12.0, 8: 1, 12: 1, 16: 4, 18: 1, 20: 2, 22: 4, 24: 15, 26: 3, 28: 4, 29: 2, 30: 2, 32: 49}
    source_lengths = _lengths(rng, family, made, sources)
    target_lengths = _lengths(rng, family, made, targets)
    # Rules open at both ends would soon cover every packet: nothing would be left to miss.
    target_lengths[(source_lengths <= 8) & (target_lengths <= 12)] = 32 if family == 4 else 128
    return _boxes(
        _five_tuple(family),
        [
            _prefix(_sites(rng, family, sites, made), source_lengths),
            _prefix(_sites(rng, family, sites, made), target_lengths),
            _ports(rng, made, (0.72, 0.13, 0.10, 0.05)),
            _ports(rng, made, (0.05, 0.05, 0.70, 0.20)),
            _protocols(rng, made, 0.05),
        ],
    )


def _netpol(rng: np.random.Generator, family: int, count: int) -> Boxes:
    pods = min(64, int(np.ceil(np.sqrt(count))))
    made = count + count // 4 + 16
    pair = np.arange(made) % (pods * pods)
    size = 4 if family == 4 else 16
    sources, targets = np.zeros((2, made, size), np.uint8)
    sources[:, :2], targets[:, :2] = ((10, 1), (10, 2)) if family == 4 else ((0xFD, 0x01), (0xFD, 0x02))
    sources[:, -1], targets[:, -1] = 1 + pair // pods, 1 + pair % pods
    hosts = np.full(made, 8 * size)
    return _boxes(
        _five_tuple(family),
        [
            _prefix(sources, hosts),
            _prefix(targets, hosts),
            _ports(rng, made, (1.0, 0.0, 0.0, 0.0)),
            _ports(rng, made, (0.03, 0.0, 0.90, 0.07)),
            _any(np.where(rng.random(made) < 0.85, TCP, UDP), np.zeros(made, bool)),
        ],
    )


def _policy(rng: np.random.Generator, family: int, count: int) -> Boxes:
    """A scope has some 30 allows, one in eight of them from or to a block, and its default deny."""
    size = 4 if family == 4 else 16
    scopes = max(2, count // 32)
    allows = count + count // 4 + 16 - scopes
    made = allows + scopes
    deny = np.arange(made) >= allows
    scope = np.concatenate([rng.integers(1, scopes + 1, allows), np.arange(1, scopes + 1)])
    block = (rng.random(made) < 0.125) & ~deny
    ingress = scope % 2 == 0
    address = _sites(rng, family, 16, made)
    block_length = _lengths(rng, family, made, {8: 1.0, 16: 3, 20: 1, 24: 4, 32: 3})
    # Classes: one bit says "a pod"; a selector is a prefix below it, most often one class.
    class_bits = rng.choice([1, 8, 12, 16, 32], made, p=[0.04, 0.06, 0.10, 0.10, 0.70])
    number = 1 << 31 | rng.integers(0, max(16, scopes), made) << 12 | rng.integers(0, 8, made)
    return _boxes(
        f"match4,prefix4,prefix{size},prefix{size},range2,range2,any1",
        [
            _exact(scope, 4),
            _prefix(_bytes(number, 4), np.where(block | deny, 0, class_bits)),
            _prefix(address, np.where(block & ingress, block_length, 0)),
            _prefix(address, np.where(block & ~ingress, block_length, 0)),
            _ports(rng, made, (1.0, 0.0, 0.0, 0.0)),
            _deny_open(_ports(rng, made, (0.10, 0.0, 0.82, 0.08)), deny),
            _deny_open(_any(np.where(rng.random(made) < 0.8, TCP, UDP), rng.random(made) < 0.05), deny),
        ],
        deny,
    )


def _deny_open(column: Column, deny: npt.NDArray[np.bool_]) -> Column:
    low, high, lengths = column
    return np.where(deny[:, None], 0, low), np.where(deny[:, None], 255, high), np.where(deny, 0, lengths)


SHAPES: dict[str, Generator] = {"acl": _acl, "fw": _fw, "netpol": _netpol, "policy": _policy}
