# SPDX-License-Identifier: Apache-2.0
"""Every metric, in one place: its name, what it counts, its labels.

Counts that live in the kernel are read when somebody scrapes, by a collector; what this process does itself
are plain instruments on `AgentInstruments`. Both are registered on a registry of their own, so nothing
happens at import.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from wildcard_operator.model.entries import RuleKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from wildcard_operator.model.entries import RuleName

RULE_LABELS: Final = ("kind", "namespace", "policy", "rule", "direction", "action")


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: name without the suffix that its type adds, help, label names."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


RULE_PACKETS: Final = Described("wildcard_rule_packets", "Packets that a rule decided.", RULE_LABELS)
RULE_BYTES: Final = Described("wildcard_rule_bytes", "Bytes of the packets that a rule decided.", RULE_LABELS)
DEFAULT_DENY_PACKETS: Final = Described(
    "wildcard_default_deny_packets",
    "Packets of isolated pods that no rule of a policy allows, and that were dropped for it.",
    ("namespace", "direction"),
)
EVENT_PACKETS: Final = Described(
    "wildcard_event_packets",
    "Packets that no rule decided, by what became of them and why; docs/datapath.md explains each event.",
    ("event",),
)
EVENT_BYTES: Final = Described("wildcard_event_bytes", "Bytes of the packets of an event.", ("event",))
MAP_ENTRIES: Final = Described("wildcard_map_entries", "Entries in a map of the kernel.", ("map",))
MAP_CAPACITY: Final = Described(
    "wildcard_map_capacity", "Entries that a map of the kernel can hold.", ("map",)
)
MAP_BYTES: Final = Described("wildcard_map_bytes", "Memory of a map of the kernel.", ("map",))
CONNTRACK_ENTRIES: Final = Described("wildcard_conntrack_entries", "Connections that the kernel tracks.")
CONDITIONS: Final = Described(
    "wildcard_node_condition",
    "1 for each thing that this node can't do now, with its reason.",
    ("reason", "subject"),
)
BROKEN_OBJECTS: Final = Described(
    "wildcard_refused_objects", "Objects that are refused, or in force in an older form.", ("kind",)
)
PROGRAMMING_LATENCY: Final = Described(
    "wildcard_programming_latency_seconds", "From the moment a change was seen until the kernel judges by it."
)
COMMITS: Final = Described("wildcard_commits", "Changes of the kernel's maps, each visible as a whole.")
ERRORS: Final = Described(
    "wildcard_program_errors",
    "Failures to bring a change into the kernel, by the stage that failed.",
    ("stage",),
)

_LATENCY_BUCKETS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class RuleCount:
    """A rule's counter."""

    rule: RuleName
    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class MapUse:
    """How full a map is, and its memory in bytes."""

    name: str
    entries: int
    capacity: int
    bytes: int


class NodeReadings(Protocol):
    """What the collector reads when somebody scrapes; called from the server's thread."""

    def rule_counts(self) -> Iterable[RuleCount]:
        """Counters of all rules in force."""

    def event_counts(self) -> Mapping[str, tuple[int, int]]:
        """Packets and bytes of each event."""

    def map_uses(self) -> Iterable[MapUse]:
        """The maps."""

    def conditions(self) -> Iterable[tuple[str, str]]:
        """(reason, subject) of what the node can't do."""

    def refused(self) -> Mapping[str, int]:
        """Number of objects of each kind that are not in force as they are written."""

    def tracked_connections(self) -> int | None:
        """Entries of the kernel's connection table, None where it has none."""


class NodeCollector:
    """The kernel's counts at the time of a scrape."""

    def __init__(self, readings: NodeReadings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from self._rules()
        packets, octets = _counter(EVENT_PACKETS), _counter(EVENT_BYTES)
        for event, (count, size) in self._readings.event_counts().items():
            packets.add_metric([event], count)
            octets.add_metric([event], size)
        yield from (packets, octets)
        yield from self._maps()
        conditions, refused = _gauge(CONDITIONS), _gauge(BROKEN_OBJECTS)
        for reason, subject in self._readings.conditions():
            conditions.add_metric([reason, subject], 1)
        for kind, number in self._readings.refused().items():
            refused.add_metric([kind], number)
        yield from (conditions, refused)
        tracked = self._readings.tracked_connections()
        if tracked is not None:
            family = _gauge(CONNTRACK_ENTRIES)
            family.add_metric([], tracked)
            yield family

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not read the kernel."""
        return iter(())

    def _rules(self) -> Iterator[Metric]:
        packets, octets = _counter(RULE_PACKETS), _counter(RULE_BYTES)
        denied: dict[tuple[str, str], int] = {}
        for count in self._readings.rule_counts():
            rule = count.rule
            labels = [rule.kind, rule.namespace, rule.name, rule.rule, rule.direction, rule.action]
            packets.add_metric(labels, count.packets)
            octets.add_metric(labels, count.bytes)
            if rule.kind is RuleKind.DEFAULT_DENY:
                key = rule.namespace, rule.direction.value
                denied[key] = denied.get(key, 0) + count.packets
        yield from (packets, octets)
        family = _counter(DEFAULT_DENY_PACKETS)
        for labels_of, number in denied.items():
            family.add_metric(list(labels_of), number)
        yield family

    def _maps(self) -> Iterator[Metric]:
        entries, capacity, octets = _gauge(MAP_ENTRIES), _gauge(MAP_CAPACITY), _gauge(MAP_BYTES)
        for use in self._readings.map_uses():
            entries.add_metric([use.name], use.entries)
            capacity.add_metric([use.name], use.capacity)
            octets.add_metric([use.name], use.bytes)
        yield from (entries, capacity, octets)


class AgentInstruments:
    """What the agent itself measures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.latency = Histogram(
            PROGRAMMING_LATENCY.name, PROGRAMMING_LATENCY.help, buckets=_LATENCY_BUCKETS, registry=registry
        )
        self.commits = Counter(COMMITS.name, COMMITS.help, registry=registry)
        self.errors = Counter(ERRORS.name, ERRORS.help, ERRORS.labels, registry=registry)


def _counter(metric: Described) -> CounterMetricFamily:
    return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)


def _gauge(metric: Described) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
