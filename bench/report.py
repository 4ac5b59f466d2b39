# SPDX-License-Identifier: Apache-2.0
"""The wildcard map's figures as tables and a plot for docs/performance.md."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
import sets
from document import PERFORMANCE, machine, replace_section, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Record = dict[str, Any]

# The proposed map type's own C, compiled natively in user space, on another machine: ns a lookup, first
# match, no priorities. There an LPM trie on the source address alone took 25 to 150 ns over such sets.
PROPOSED: dict[tuple[str, int], dict[int, int]] = {
    ("acl", 4): {16: 86, 1_000: 141, 10_000: 146, 100_000: 203},
    ("fw", 4): {16: 109, 1_000: 227, 10_000: 316, 100_000: 359},
    ("netpol", 4): {16: 67, 1_000: 60, 10_000: 56, 100_000: 51},
    ("acl", 6): {16: 98, 1_000: 142, 10_000: 254, 100_000: 327},
    ("fw", 6): {16: 120, 1_000: 261, 10_000: 374, 100_000: 450},
    ("netpol", 6): {16: 73, 1_000: 189, 10_000: 135, 100_000: 130},
}
PROPOSED_LPM = (25, 150)
GOAL = 0.5
ORDER_GOAL = 0.10
PLOT = PERFORMANCE.parent / "images" / "map.svg"


LOOKUPS = """\
Nanoseconds per lookup with priorities, 90 % hits, less the empty loop. *Independent*: throughput over 4,096
packets, the median of three loads; *dependent*: each packet chosen by the last answer. *Proposed*: what the
C of `BPF_MAP_TYPE_WILDCARD` (2022) takes in user space, first match and no priorities, on another machine,
times {factor:.2f}: what an LPM trie on the source address alone takes here against what it takes there, the
geometric mean of its least and most. The goal is at most half of it in every cell; **missed** marks those
that are not there. The `policy` sets are shaped like the entries that this project's compiler makes; the
proposal was not measured on them."""

COSTS = """\
*p99*: the packet at the 99th percentile by its own cost, repeated a thousand times, and its multiple of the
mean over packets (goal: 3). *Load*: from arrays to the commit (goal: 1 s for 100,000). *One rule*: the 95th
percentile of a hundred commits of one rule, grace period included (goal: 20 ms); *grace*: that part of the
last one. *Update*: a rule's share of a batch that updates a thousand. *Memory*: all arrays, taken at
creation."""

ORDERS = """\
Nanoseconds per lookup, the same set loaded in three orders, in turn, three times each. Tables are chosen for
the set, so what differs is the measurement and the random hash seed. The goal is 10 %; {missed} of {cells}
cells differ by more."""

ALGORITHMS = """\
Nanoseconds per lookup. Brute force is left out where its chain is longer than anybody would choose; tm-static
has a pool guessed without knowing the rules (all, half and none of an address's bits)."""

BESIDE = """\
Nanoseconds per lookup in the same run. *LPM trie*: the source address alone. *Hash*: the packet as the whole
key, always hitting. Neither classifies. *nftables*: a set of concatenated intervals, looked up by rules in a
netdev chain in a namespace, the loading of the fields included. It knows no priorities and refuses overlaps,
so it holds only the *share* of the rules that are disjoint; its load is the whole `nft -f`."""


def write(results: Mapping[str, Record]) -> None:
    """Write the section of the map into docs/performance.md, and its plot."""
    records = list(results.values())
    factor = scale(records)
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    _plot(records, factor)
    missed = sum(_spread(record) > ORDER_GOAL for record in records)
    parts = [
        "## The wildcard map",
        f"On {machine()} Load average at the end: {os.getloadavg()[1]:.1f} (the benchmark alone makes 1).",
        "Made by `make bench-map`: bench/map.py is the method, bench/sets.py the sets.",
        "![Nanoseconds per lookup against the number of rules](images/map.svg)",
        LOOKUPS.format(factor=factor),
        _lookup_table(records, factor),
        "### What a lookup costs at worst, and what a map costs to keep",
        COSTS,
        _cost_table(records),
        "### The order of insertion",
        ORDERS.format(missed=missed, cells=len(records)),
        _order_table(records),
        "### The algorithms",
        ALGORITHMS,
        _algorithm_table(records),
        "### What the kernel has beside it",
        BESIDE,
        _beside_table(records),
    ]
    replace_section(PERFORMANCE, "map", "\n\n".join(parts))


def scale(records: Sequence[Record]) -> float:
    """How much slower than the other machine this one is, by what an LPM trie takes at its least and most."""
    times = [record["kernel"]["lpm"] for record in records if record["shape"] != "policy"]
    low, high = PROPOSED_LPM
    return float((min(times) / low * max(times) / high) ** 0.5)


def _proposed(record: Record, factor: float) -> float | None:
    found = PROPOSED.get((record["shape"], record["family"]), {}).get(record["rules"])
    return None if found is None else found * factor


def _judged(text: str, met: bool) -> str:
    return text if met else f"**missed** {text}"


def _name(record: Record) -> str:
    return f"{record['shape']} v{record['family']}"


def _lookup(record: Record, order: str = sets.ORDERS[0]) -> float:
    return float(record["orders"][order])


def _lookup_table(records: Sequence[Record], factor: float) -> str:
    rows = []
    for record in records:
        auto, proposed = record["auto"], _proposed(record, factor)
        ratio = None if proposed is None else _lookup(record) / proposed
        rows.append(
            [
                _name(record),
                f"{record['rules']:,}",
                f"{_lookup(record):.0f}",
                f"{auto['ns_dependent']:.0f}",
                "" if proposed is None else f"{proposed:.0f}",
                "" if ratio is None else _judged(f"{ratio:.2f}", ratio <= GOAL),
                auto["tables"],
                f"{auto['average_probes']:.1f}",
                auto["longest_chain"],
            ]
        )
    header = [
        "set",
        "rules",
        "independent",
        "dependent",
        "proposed",
        "ratio",
        "tables",
        "probes",
        "longest chain",
    ]
    return table(header, rows)


def _cost_table(records: Sequence[Record]) -> str:
    rows = []
    for record in records:
        auto = record["auto"]
        mean = max(_lookup(record), 1e-9)
        multiple = auto["ns_p99"] / mean
        rows.append(
            [
                _name(record),
                f"{record['rules']:,}",
                f"{auto['ns_p99']:.0f} ns",
                _judged(f"{multiple:.1f}", multiple <= 3),
                _judged(f"{auto['load_s'] * 1e3:.0f} ms", auto["load_s"] <= 1),
                _judged(f"{auto['ns_commit_one'] / 1e6:.1f} ms", auto["ns_commit_one"] <= 20e6),
                f"{auto['ns_grace'] / 1e6:.1f} ms",
                f"{auto['ns_per_update'] / 1e3:.0f} µs",
                f"{auto['memory'] / 2**20:.1f} MiB",
            ]
        )
    return table(["set", "rules", "p99", "of mean", "load", "one rule", "grace", "update", "memory"], rows)


def _spread(record: Record) -> float:
    times = [_lookup(record, order) for order in sets.ORDERS]
    return float((max(times) - min(times)) / min(times))


def _order_table(records: Sequence[Record]) -> str:
    rows = [
        [
            _name(record),
            f"{record['rules']:,}",
            *(f"{_lookup(record, order):.0f}" for order in sets.ORDERS),
            _judged(f"{_spread(record):.0%}", _spread(record) <= ORDER_GOAL),
        ]
        for record in records
    ]
    return table(["set", "rules", *(order.replace("-", " ") for order in sets.ORDERS), "spread"], rows)


def _algorithm_table(records: Sequence[Record]) -> str:
    def cell(record: Record, name: str) -> str:
        return f"{record[name]:,.0f}" if name in record else ""

    rows = [
        [
            _name(record),
            f"{record['rules']:,}",
            f"{_lookup(record):.0f}",
            *(cell(record, name) for name in ("bf", "tm", "tm-static")),
        ]
        for record in records
    ]
    return table(["set", "rules", "auto", "bf", "tm", "tm-static"], rows)


def _beside_table(records: Sequence[Record]) -> str:
    rows = []
    for record in records:
        found = record.get("nftables")
        rows.append(
            [
                _name(record),
                f"{record['rules']:,}",
                f"{_lookup(record):.0f}",
                f"{record['kernel']['lpm']:.0f}",
                f"{record['kernel']['hash']:.0f}",
                f"{found['ns_per_lookup']:,.0f}" if found else "",
                f"{found['rules'] / record['rules']:.0%}" if found else "",
                f"{found['load_s'] * 1e3:,.0f} ms" if found else "",
            ]
        )
    return table(["set", "rules", "ours", "LPM trie", "hash", "nftables", "share", "its load"], rows)


def _plot(records: Sequence[Record], factor: float) -> None:
    names = list(dict.fromkeys(_name(record) for record in records))
    figure, axes = plt.subplots(2, -(-len(names) // 2), figsize=(13, 6), sharex=True, squeeze=False)
    for name, axis in zip(sorted(names, key=lambda name: name[-1]), axes.flat, strict=False):
        own = [record for record in records if _name(record) == name]
        sizes = [record["rules"] for record in own]
        lines = {
            "ours": [_lookup(record) for record in own],
            "ours, dependent": [record["auto"]["ns_dependent"] for record in own],
            "proposed, scaled": [_proposed(record, factor) or float("nan") for record in own],
            "LPM trie, one address": [record["kernel"]["lpm"] for record in own],
            "hash, exact key": [record["kernel"]["hash"] for record in own],
        }
        for (label, times), style in zip(lines.items(), ("o-", "o--", "s-", "^:", "v:"), strict=True):
            axis.plot(sizes, times, style, label=label, markersize=4)
        axis.set(xscale="log", title=name, ylim=(0, None))
    for axis in axes[:, 0]:
        axis.set_ylabel("ns per lookup")
    for axis in axes[-1]:
        axis.set_xlabel("rules")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=5, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(PLOT, metadata={"Date": None})
