# SPDX-License-Identifier: Apache-2.0
"""Every metric of the operator. Seconds throughout; counters end in `_total`.

wildcard_operator_leads                                     1 where this replica publishes
wildcard_operator_source_synced{resource}                   1 once everything there is of it was read
wildcard_operator_source_objects{resource}
wildcard_operator_source_errors_total{resource,status}      failed lists and watches; status 0: no answer
wildcard_operator_compute_seconds{resource}                 to take in one changed object
wildcard_operator_published_objects{resource}
wildcard_operator_publish_pending                           objects that differ from what they should be
wildcard_operator_publish_wait_seconds{resource}            from the change to the write
wildcard_operator_publish_seconds{resource,verb}            of the write itself
wildcard_operator_publish_errors_total{resource,verb,status}
wildcard_operator_refused_objects{kind,reason}              policies and filters that can't be carried out
wildcard_operator_network_policies{state}                   programmed, pending or failed, over all nodes
wildcard_operator_network_policy_lagging_nodes{namespace,policy,state} nodes where it isn't in force as it is
written, for up to 100 policies that are pending or failed
wildcard_operator_nodes{state}                              ready, unready
wildcard_operator_splitting_labels{label}                   groups of one pod that a label makes, from
1000 on
"""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric

PREFIX = "wildcard_operator"
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class PolicyStates:
    """How far NetworkPolicies are in force.

    Attributes:
        counts: How many are in each state.
        lagging: Nodes that lack them, by namespace, name and state, of some that lag.
    """

    counts: Mapping[str, int]
    lagging: Mapping[tuple[str, str, str], int]


class OperatorState(Protocol):
    """What is read at every scrape, instead of being kept up to date in gauges."""

    def leads(self) -> bool:
        """Whether this replica publishes."""
        ...

    def synced(self) -> Mapping[str, bool]:
        """Whether each source was read once as a whole, by resource."""
        ...

    def source_objects(self) -> Mapping[str, int]:
        """Objects of each source."""
        ...

    def published_objects(self) -> Mapping[str, int]:
        """Objects that are there, by resource."""
        ...

    def pending(self) -> int:
        """Objects that differ from what they should be."""
        ...

    def refused(self) -> Iterable[tuple[str, str]]:
        """Kind and reason of every object that can't be carried out."""
        ...

    def policies(self) -> PolicyStates:
        """NetworkPolicies by how far they are in force."""
        ...

    def nodes(self) -> Mapping[str, int]:
        """Nodes by whether their agent is ready."""
        ...

    def splitting_labels(self) -> Mapping[str, int]:
        """Labels that make very many groups of one pod, and how many."""
        ...


class OperatorMetrics:
    """Counts what happens; what is the case, `state` is asked for."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._source_errors = Counter(
            f"{PREFIX}_source_errors", "Failed lists and watches", ["resource", "status"], registry=registry
        )
        self._compute = Histogram(
            f"{PREFIX}_compute_seconds",
            "Time to take in one changed object",
            ["resource"],
            buckets=LATENCIES,
            registry=registry,
        )
        self._wait = Histogram(
            f"{PREFIX}_publish_wait_seconds",
            "Time from a change to the write that it causes",
            ["resource"],
            buckets=LATENCIES,
            registry=registry,
        )
        self._write = Histogram(
            f"{PREFIX}_publish_seconds",
            "Time that a write took",
            ["resource", "verb"],
            buckets=LATENCIES,
            registry=registry,
        )
        self._write_errors = Counter(
            f"{PREFIX}_publish_errors", "Failed writes", ["resource", "verb", "status"], registry=registry
        )
        self._registry = registry

    def watch(self, state: OperatorState) -> None:
        """Ask this state at every scrape."""
        self._registry.register(_StateCollector(state))

    def source_failed(self, resource: str, status: int) -> None:
        """A list or watch failed."""
        self._source_errors.labels(resource, str(status)).inc()

    def computed(self, resource: str, seconds: float) -> None:
        """A changed object was taken in."""
        self._compute.labels(resource).observe(seconds)

    def wrote(self, resource: str, verb: str, waited: float, took: float) -> None:
        """A write succeeded."""
        self._wait.labels(resource).observe(waited)
        self._write.labels(resource, verb).observe(took)

    def write_failed(self, resource: str, verb: str, status: int) -> None:
        """A write failed."""
        self._write_errors.labels(resource, verb, str(status)).inc()


class _StateCollector:
    def __init__(self, state: OperatorState) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        state = self._state
        policies = state.policies()
        yield _gauge("leads", "1 where this replica publishes", (), {(): state.leads()})
        yield _gauge(
            "publish_pending", "Objects that differ from what they should be", (), {(): state.pending()}
        )
        by_resource = {
            "source_synced": ("1 once everything there is of it was read", state.synced()),
            "source_objects": ("Objects of a source", state.source_objects()),
            "published_objects": ("Objects that the operator wrote", state.published_objects()),
        }
        for name, (text, values) in by_resource.items():
            yield _gauge(name, text, ("resource",), {(key,): value for key, value in values.items()})
        by_state = {
            "network_policies": ("Policies by how far they are in force", policies.counts),
            "nodes": ("Nodes by whether their agent is ready", state.nodes()),
        }
        for name, (text, values) in by_state.items():
            yield _gauge(name, text, ("state",), {(key,): value for key, value in values.items()})
        yield _gauge(
            "network_policy_lagging_nodes",
            "Nodes where a policy isn't in force as it is written",
            ("namespace", "policy", "state"),
            policies.lagging,
        )
        yield _gauge(
            "refused_objects", "Objects that can't be carried out", ("kind", "reason"), Tally(state.refused())
        )
        splitting = {(label,): count for label, count in state.splitting_labels().items()}
        yield _gauge("splitting_labels", "Groups of one pod that a label makes", ("label",), splitting)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, float(value))
    return family
