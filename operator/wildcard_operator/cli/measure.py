# SPDX-License-Identifier: Apache-2.0
"""Time a wildcard map in the kernel: what ``wildcardctl classify --bench`` prints."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from wildcard_operator.wildcardmap.program import Benchmark

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import numpy.typing as npt

    from wildcard_operator.wildcardmap import WildcardMap

ROUNDS = 9
COMMITS = 100
UPDATES = 1000
REPEATS = 1000
SAMPLED = 4096
# bpf_loop() ends after 2^23 iterations.
MOST_LOOPS = 1 << 23


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement. Times are nanoseconds, `load_s` seconds.

    - ``ns_per_lookup``: independent lookups over all packets, less the empty loop; the median round
    - ``ns_dependent``: each packet chosen by the last answer, less the empty loop; the median round
    - ``ns_empty``: the loop that fetches packets and looks nothing up
    - ``ns_p99``: over the packets (at most `SAMPLED`), each timed `REPEATS` times, less the empty loop
    - ``ns_per_update``: a rule's share of one batch that updates up to `UPDATES` rules, the commit included
    - ``ns_commit_one``: the 95th percentile of `COMMITS` commits of one rule, grace period included
    - ``load_s``: from arrays to the commit
    """

    algorithm: str
    rules: int
    tables: int
    ns_per_lookup: float
    ns_dependent: float
    ns_empty: float
    ns_p99: float
    ns_per_update: float
    ns_commit_one: float
    load_s: float
    packets: int


def timed(action: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(target: WildcardMap, packets: npt.NDArray[np.uint8], seconds: float, load_s: float) -> Figures:
    """Measure a map that was loaded in `load_s`, for about `seconds`; it keeps its entries.

    `packets` is uint8[n, key size], not empty.
    """
    with Stopwatch(target, packets, seconds) as watch:
        return figures(target, watch, load_s)


def figures(target: WildcardMap, watch: Stopwatch, load_s: float) -> Figures:
    """All figures of a map as it is now, with the stopwatch of that map."""
    empty = watch.median(Benchmark.EMPTY)
    return Figures(
        algorithm=target.algorithm.value,
        rules=len(target),
        tables=target.stats().tables,
        ns_per_lookup=watch.median(Benchmark.INDEPENDENT) - empty,
        ns_dependent=watch.median(Benchmark.DEPENDENT) - empty,
        ns_empty=empty,
        ns_p99=watch.percentile(99) - empty,
        ns_per_update=_update_cost(target),
        ns_commit_one=_commit_cost(target),
        load_s=load_s,
        packets=watch.packets,
    )


class Stopwatch:
    """Timed loops over packets (uint8[n, key size], repeated up to a power of two) in one map.

    `loops` are what can be timed. Stays right when the map's entries change.
    """

    def __init__(
        self,
        target: WildcardMap,
        packets: npt.NDArray[np.uint8],
        seconds: float,
        loops: Collection[Benchmark] = tuple(Benchmark),
    ) -> None:
        self.packets = len(packets)
        self._capacity = 1 << (len(packets) - 1).bit_length()
        self._seconds = seconds
        self._matcher = target.matcher(self._capacity, loops)
        self._matcher.packets[:, : packets.shape[1]] = packets[np.arange(self._capacity) % len(packets)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._matcher.close()

    def _per_lookup(self, loop: Benchmark, count: int, first: int = 0) -> float:
        return self._matcher.time(loop, count, packets=self._capacity, first=first) * 1e9 / count

    def median(self, loop: Benchmark) -> float:
        """Nanoseconds an iteration, the median of several rounds over all packets, in a fifth of the time."""
        guess = max(self._per_lookup(loop, self._capacity), 1)
        wanted = self._seconds * 1e9 / 5 / ROUNDS / guess
        count = min(max(1, int(wanted) // self._capacity) * self._capacity, MOST_LOOPS)
        return statistics.median(self._per_lookup(loop, count) for _ in range(ROUNDS))

    def percentile(self, percent: float) -> float:
        """Nanoseconds an iteration of the packet that is at this percentile of all (or of a sample)."""
        rows = np.linspace(0, self.packets - 1, min(self.packets, SAMPLED)).astype(int)
        costs = [self._per_lookup(Benchmark.REPEATED, REPEATS, int(row)) for row in rows]
        return float(np.percentile(costs, percent))


def _update_cost(target: WildcardMap) -> float:
    """Nanoseconds a rule when a batch updates many rules that are there, to what they are."""
    entries = list(itertools.islice(target, UPDATES))
    if not entries:
        return 0.0

    def update_all() -> None:
        with target.batch() as changes:
            for entry in entries:
                changes.update(
                    entry.rule, entry.value, priority=entry.priority, order=entry.order, rule_id=entry.rule_id
                )

    return timed(update_all) * 1e9 / len(entries)


def _commit_cost(target: WildcardMap) -> float:
    """Nanoseconds of the 95th percentile of commits that delete a rule or add it again."""
    entry = next(itertools.islice(target, len(target) // 2, None), None)
    if entry is None:
        return 0.0
    rule, priority, order = entry.rule, entry.priority, entry.order

    def remove() -> None:
        target.delete(rule, priority=priority, order=order)

    def add() -> None:
        target.update(rule, entry.value, priority=priority, order=order, rule_id=entry.rule_id)

    times = [timed(change) for _ in range(COMMITS // 2) for change in (remove, add)]
    return float(np.percentile(times, 95)) * 1e9
