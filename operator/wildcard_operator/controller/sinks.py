# SPDX-License-Identifier: Apache-2.0
"""Where watched objects enter."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from wildcard_operator.kube.api import key_of
from wildcard_operator.kube.nodestate import parse_node_state

if TYPE_CHECKING:
    from wildcard_operator.controller.board import Board
    from wildcard_operator.controller.pipeline import Pipeline
    from wildcard_operator.controller.world import World
    from wildcard_operator.kube.api import Json, Resource
    from wildcard_operator.kube.reflector import Key
    from wildcard_operator.telemetry.operator_metrics import OperatorMetrics

log = structlog.get_logger()


class SourceSink:
    """Hands the objects of one resource to the pipeline."""

    def __init__(self, resource: Resource, pipeline: Pipeline, metrics: OperatorMetrics) -> None:
        self._resource = resource
        self._pipeline = pipeline
        self._metrics = metrics

    def put(self, item: Json) -> None:
        """An object is there, or is there in a new state."""
        started = time.perf_counter()
        self._pipeline.take(self._resource, key_of(item), item)
        self._metrics.computed(self._resource.plural, time.perf_counter() - started)

    def remove(self, key: Key) -> None:
        """The object is no longer there."""
        self._pipeline.take(self._resource, key, None)


class ReportSink:
    """Takes what agents report in NodeStates."""

    def __init__(self, world: World, board: Board) -> None:
        self._world = world
        self._board = board

    def put(self, item: Json) -> None:
        """An agent reported."""
        name = item["metadata"]["name"]
        try:
            report = parse_node_state(item)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("unreadable NodeState", node=name, error=repr(error))
            report = None
        self._world.set_report(name, report)
        self._board.touch()

    def remove(self, key: Key) -> None:
        """A node's report is gone."""
        self._world.set_report(key[1], None)
        self._board.touch()
