# SPDX-License-Identifier: Apache-2.0
"""One replica of the operator: it reads always, and writes while it leads.

All replicas hold the whole model. Only the one that leads writes, and only after every source was read as a
whole: a list that is half read looks like deletions.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import structlog

from wildcard_operator.controller.parts import Parts, build
from wildcard_operator.kube.api import ADDRESS_SETS, ApiError, list_all
from wildcard_operator.kube.backoff import Backoff
from wildcard_operator.kube.client import HttpApi, load_configuration
from wildcard_operator.kube.lease import Election

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from wildcard_operator.controller.board import Board
    from wildcard_operator.controller.settings import Settings
    from wildcard_operator.kube.api import Api
    from wildcard_operator.telemetry.operator_metrics import OperatorMetrics

log = structlog.get_logger()

LEASE_NAME = "wildcard-operator"
LOOK_SECONDS = 0.1


class PartEndedError(RuntimeError):
    """A part of the operator has ended that never should; the process has to start again."""


class Replica:
    """Runs between `start` and `stop`; `failed` is set where a part of it has ended that never should."""

    def __init__(self, settings: Settings, metrics: OperatorMetrics) -> None:
        self.settings = settings
        self.failed = asyncio.Event()
        self._metrics = metrics
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._leads = asyncio.Event()
        self._parts: Parts | None = None
        self._election: Election | None = None

    @property
    def board(self) -> Board:
        """The statuses of the filters; there from `start` on."""
        if self._parts is None:
            raise PartEndedError("the operator was not started")
        return self._parts.board

    async def start(self) -> None:
        """Begin to read, to take part in the election and, as the leader, to write."""
        configuration = await load_configuration(self.settings.kubeconfig)
        api = await self._stack.enter_async_context(HttpApi(configuration))
        loop = asyncio.get_running_loop()

        def changed(leads: bool) -> None:
            loop.call_soon_threadsafe(self._lead, leads)

        election = self._election = Election(
            lambda: HttpApi(configuration),
            self.settings.namespace,
            LEASE_NAME,
            self.settings.identity,
            changed,
        )
        parts = self._parts = build(self.settings, self._metrics, api, election.held)
        self._metrics.watch(parts)
        for reflector in parts.reflectors:
            self._spawn(reflector.run(), reflector.resource.plural)
        self._spawn(parts.publisher.run(), "publisher")
        self._spawn(parts.pipeline.run(), "pipeline")
        self._spawn(parts.board.run(), "status board")
        self._spawn(self._activate(parts, api), "activation")
        election.start()

    async def stop(self) -> None:
        """Give up the Lease and end everything."""
        if self._election is not None:
            await asyncio.to_thread(self._election.stop)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def ready(self) -> bool:
        """Whether this replica knows all that it needs to lead."""
        return self._parts is not None and all(self._parts.synced().values())

    def health(self) -> dict[str, Any]:
        """What the probe tells. Raises PartEndedError where the process should be started again."""
        if (
            self._parts is None
            or self._election is None
            or self.failed.is_set()
            or not self._election.alive()
        ):
            raise PartEndedError("a part of the operator has ended")
        return {"leads": self._parts.leads(), "synced": self.ready(), "pending": self._parts.pending()}

    def _lead(self, leads: bool) -> None:
        log.info("leads" if leads else "follows", identity=self.settings.identity)
        if leads:
            self._leads.set()
        else:
            self._leads.clear()
            if self._parts is not None:
                self._parts.publisher.deactivate()

    async def _activate(self, parts: Parts, api: Api) -> None:
        """Let the publisher write whenever this replica leads, once all sources are read."""
        for reflector in parts.reflectors:
            await reflector.synced.wait()
        log.info("synced", **parts.source_objects())
        backoff = Backoff()
        while True:
            await self._leads.wait()
            try:
                published = await list_all(api, ADDRESS_SETS, self.settings.namespace)
            except ApiError as error:
                log.warning("can't begin to publish yet", error=str(error))
                await asyncio.sleep(backoff.delay(error.retry_after))
                continue
            backoff.reset()
            await parts.pipeline.lead(published)
            parts.publisher.activate()
            parts.board.touch()
            # Not the event alone: leadership may be lost and won again between two looks.
            while parts.publisher.active:
                await asyncio.sleep(LOOK_SECONDS)

    def _spawn(self, job: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(job, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("part ended", part=task.get_name(), exc_info=task.exception())
            self.failed.set()
