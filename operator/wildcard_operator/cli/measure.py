# SPDX-License-Identifier: Apache-2.0
"""Time a wildcard map in the kernel: what ``wildcardctl classify --bench`` prints."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wildcard_operator.wildcardmap.program import Benchmark

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from wildcard_operator.wildcardmap import WildcardMap
    from wildcard_operator.wildcardmap.program import Matcher

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

    `packets` is uint8[n, key size], not empty; they are repeated up to a power of two.
    """
    capacity = 1 << max(0, len(packets) - 1).bit_length()
    matcher = target.matcher(capacity, timed=True)
    try:
        matcher.packets[:, : packets.shape[1]] = packets[np.arange(capacity) % len(packets)]
        lookups = _Lookups(matcher, capacity, seconds)
        empty = lookups.median(Benchmark.EMPTY)
        independent = lookups.median(Benchmark.INDEPENDENT)
        dependent = lookups.median(Benchmark.DEPENDENT)
        slow = lookups.percentile(len(packets), 99)
    finally:
        matcher.close()
    return Figures(
        algorithm=target.algorithm.value,
        rules=len(target),
        tables=target.stats().tables,
        ns_per_lookup=independent - empty,
        ns_dependent=dependent - empty,
        ns_empty=empty,
        ns_p99=slow - empty,
        ns_per_update=_update_cost(target),
        ns_commit_one=_commit_cost(target),
        load_s=load_s,
        packets=len(packets),
    )


class _Lookups:
    """Timed loops over the packets of a matcher."""

    def __init__(self, matcher: Matcher, packets: int, seconds: float) -> None:
        self._matcher, self._packets = matcher, packets
        # A fifth of the time goes to each of three loops; the percentile takes what it needs.
        guess = self._per_lookup(Benchmark.INDEPENDENT, packets)
        wanted = seconds / 5 / ROUNDS / max(guess * 1e-9, 1e-9)
        self._count = min(max(packets, int(wanted) // packets * packets), MOST_LOOPS)

    def _per_lookup(self, loop: Benchmark, count: int, first: int = 0) -> float:
        spent = self._matcher.time(loop, count, packets=self._packets, first=first)
        return spent * 1e9 / count

    def median(self, loop: Benchmark) -> float:
        """Nanoseconds an iteration, the median of several rounds over all packets."""
        return statistics.median(self._per_lookup(loop, self._count) for _ in range(ROUNDS))

    def percentile(self, packets: int, percent: float) -> float:
        """Nanoseconds an iteration of the packet that is at this percentile of all (or of a sample)."""
        rows = np.linspace(0, packets - 1, min(packets, SAMPLED)).astype(int)
        return float(
            np.percentile([self._per_lookup(Benchmark.REPEATED, REPEATS, int(row)) for row in rows], percent)
        )


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
    name = {"priority": entry.priority, "order": entry.order}
    times = []
    for _ in range(COMMITS // 2):
        times.append(timed(lambda: target.delete(entry.rule, **name)))
        times.append(timed(lambda: target.update(entry.rule, entry.value, rule_id=entry.rule_id, **name)))
    return float(np.percentile(times, 95)) * 1e9
