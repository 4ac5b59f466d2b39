# SPDX-License-Identifier: Apache-2.0
"""The parts of the operator, put together, and what the metrics read of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from wildcard_operator.compiler.cluster import ClusterCompiler
from wildcard_operator.controller.board import Board
from wildcard_operator.controller.pipeline import Pipeline
from wildcard_operator.controller.sinks import ReportSink, SourceSink
from wildcard_operator.controller.status import policy_states
from wildcard_operator.controller.world import World
from wildcard_operator.kube.api import (
    ADDRESS_SETS,
    NAMESPACES,
    NETWORK_POLICIES,
    NODE_STATES,
    NODES,
    PODS,
    RULE_SETS,
    WILDCARD_FILTERS,
    ApiError,
    Resource,
)
from wildcard_operator.kube.publish import Publisher
from wildcard_operator.kube.reflector import Reflector, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wildcard_operator.controller.settings import Settings
    from wildcard_operator.kube.api import Api
    from wildcard_operator.kube.reflector import Sink
    from wildcard_operator.telemetry.operator_metrics import OperatorMetrics, PolicyStates

log = structlog.get_logger()

OWN = (RULE_SETS, ADDRESS_SETS)


@dataclass(slots=True)
class Parts:
    """Everything of an operator but its election; also the `OperatorState` of the metrics."""

    world: World
    publisher: Publisher
    pipeline: Pipeline
    board: Board
    reflectors: list[Reflector] = field(default_factory=list)
    stores: dict[str, Store] = field(default_factory=dict)

    def leads(self) -> bool:
        """Whether this replica publishes."""
        return self.publisher.writes

    def synced(self) -> dict[str, bool]:
        """Whether each source was read once as a whole."""
        return {reflector.resource.plural: reflector.synced.is_set() for reflector in self.reflectors}

    def source_objects(self) -> dict[str, int]:
        """Objects of each source."""
        return {name: len(store) for name, store in self.stores.items()}

    def published_objects(self) -> dict[str, int]:
        """Objects that are there, by resource."""
        return {resource.plural: count for resource, count in self.publisher.counts().items()}

    def pending(self) -> int:
        """Objects that differ from what they should be."""
        return self.publisher.pending

    def refused(self) -> Iterable[tuple[str, str]]:
        """Kind and reason of every object that can't be carried out."""
        return self.pipeline.refused()

    def policies(self) -> PolicyStates:
        """NetworkPolicies by how far they are in force."""
        return policy_states(self.pipeline.policies(), self.world)

    def nodes(self) -> Mapping[str, int]:
        """Nodes by whether their agent is ready."""
        ready = len(self.world.ready_nodes())
        return {"ready": ready, "unready": len(self.world.node_names()) - ready}

    def splitting_labels(self) -> Mapping[str, int]:
        """Labels that make very many groups of one pod."""
        return self.pipeline.splitting_labels()


def build(settings: Settings, metrics: OperatorMetrics, api: Api, may_write: Callable[[], bool]) -> Parts:
    """The parts, connected; nothing runs yet. Call it in the event loop that they are to run in."""
    world = World()
    observer = _WriteObserver(metrics)
    publisher = Publisher(
        api, settings.namespace, qps=settings.publish_qps, may_write=may_write, observer=observer
    )
    compiler = ClusterCompiler(settings.volatile_labels)
    pipeline = Pipeline(settings, compiler, world, publisher)
    board = Board(api, world, pipeline.verdicts, lambda: publisher.writes)
    pipeline.on_change(board.touch)
    parts = Parts(world, publisher, pipeline, board)
    sinks: dict[Resource, Sink] = {
        resource: SourceSink(resource, pipeline, metrics)
        for resource in (NAMESPACES, NODES, PODS, NETWORK_POLICIES, WILDCARD_FILTERS)
    }
    sinks[NODE_STATES] = ReportSink(world, board)
    sinks |= {resource: publisher.sink(resource) for resource in OWN}
    for resource, sink in sinks.items():
        store = parts.stores[resource.plural] = Store(sink)
        namespace = settings.namespace if resource in OWN else None
        parts.reflectors.append(
            Reflector(api, resource, store, namespace=namespace, on_error=observer.source_failed)
        )
    return parts


class _WriteObserver:
    """Tells the metrics and the log what became of requests."""

    def __init__(self, metrics: OperatorMetrics) -> None:
        self._metrics = metrics

    def written(self, resource: Resource, verb: str, waited: float, took: float) -> None:
        """A write succeeded."""
        self._metrics.wrote(resource.plural, verb, waited, took)

    def failed(self, resource: Resource, verb: str, error: ApiError) -> None:
        """A write failed."""
        log.warning(
            "write failed", resource=resource.plural, verb=verb, status=error.status, error=str(error)
        )
        self._metrics.write_failed(resource.plural, verb, error.status)

    def source_failed(self, resource: Resource, error: ApiError) -> None:
        """A list or a watch failed."""
        log.warning("source failed", resource=resource.plural, status=error.status, error=str(error))
        self._metrics.source_failed(resource.plural, error.status)
