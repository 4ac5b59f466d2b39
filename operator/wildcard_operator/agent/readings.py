# SPDX-License-Identifier: Apache-2.0
"""What a scrape reads: counts from the kernel's maps, beside what the agent's thread last said of itself.

The agent's thread replaces whole values and the server's thread reads them, so no lock is needed.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wildcard_operator.telemetry.metrics import MapUse, RuleCount

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from wildcard_operator.agent.source import Problem
    from wildcard_operator.datapath.errors import NodeCondition
    from wildcard_operator.datapath.maps import NodeMaps
    from wildcard_operator.model.entries import RuleName

_TRACKED: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")


class Readings:
    """The node's counts and conditions, for the collector."""

    def __init__(self, maps: NodeMaps) -> None:
        self._maps = maps
        self._names: Mapping[int, RuleName] = maps.read_names()
        self._conditions: tuple[tuple[str, str], ...] = ()
        self._refused: Mapping[str, int] = {}

    def rules_changed(self, added: Mapping[int, RuleName], removed: Collection[int]) -> None:
        """Rules that came and went."""
        if added or removed:
            gone = frozenset(removed)
            self._names = {i: name for i, name in self._names.items() if i not in gone} | dict(added)

    def conditions_are(self, conditions: Iterable[NodeCondition]) -> None:
        """What the node can't do at present."""
        self._conditions = tuple((c.reason.value, c.subject) for c in conditions)

    def problems_are(self, problems: Iterable[Problem]) -> None:
        """Objects that are not in force as they are written."""
        self._refused = dict(Counter(problem.kind for problem in problems))

    def rule_counts(self) -> Iterator[RuleCount]:
        """Counters of all rules in force."""
        names, counts = self._names, self._maps.rule_counters()
        for rule, name in names.items():
            yield RuleCount(name, int(counts[rule, 0]), int(counts[rule, 1]))

    def event_counts(self) -> Mapping[str, tuple[int, int]]:
        """Packets and bytes of each event."""
        return self._maps.event_counts()

    def map_uses(self) -> Iterator[MapUse]:
        """The maps."""
        for name, opened in self._maps.wildcard_maps.items():
            yield MapUse(name, len(opened), opened.max_entries, opened.shape.memory())

    def conditions(self) -> Iterable[tuple[str, str]]:
        """(reason, subject) of what the node can't do."""
        return self._conditions

    def refused(self) -> Mapping[str, int]:
        """Number of objects of each kind that are not in force as they are written."""
        return self._refused

    def tracked_connections(self) -> int | None:
        """Entries of the kernel's connection table, None where it has none."""
        try:
            return int(_TRACKED.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
