# SPDX-License-Identifier: Apache-2.0
"""A node's objects from the API server, and the node's state back to it.

All requests are made in a thread with an event loop of its own; the agent's thread takes events out of a
queue. An API server that is away changes nothing: what was seen stays, and the watches go on where they were.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from wildcard_operator.agent.reporting import NodeView
from wildcard_operator.agent.watching import Watches
from wildcard_operator.kube.client import HttpApi, load_configuration
from wildcard_operator.kube.nodestate import NodeStateWriter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from wildcard_operator.agent.source import Problem
    from wildcard_operator.compiler.events import Event
    from wildcard_operator.datapath.errors import NodeCondition
    from wildcard_operator.kube.api import ApiError, Resource
    from wildcard_operator.model.entries import Condition, NodeDelta, NodeTables

log = structlog.get_logger(__name__)

# Reports are put together at most this often.
REPORT_SECONDS = 0.5


class SourceEndedError(RuntimeError):
    """The source has a defect; the process has to start again, and the kernel goes on judging meanwhile."""


class KubernetesSource:
    """The `Source` and the `Outlet` of an agent in a cluster; it works from `start` to `close`."""

    def __init__(self, kubeconfig: Path | None, node: str, namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self._node = node
        self._namespace = namespace
        self._events: deque[Event] = deque()
        self._readable = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._view = NodeView()
        self._lock = threading.Lock()  # of the view: the agent's thread changes it, the other reports it
        self._polled = 0
        self._synced = False
        self._due = asyncio.Event()
        self._ended: BaseException | None = None
        self._watches: Watches | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run_thread, name="kubernetes", daemon=True)

    def start(self) -> None:
        """Begin to follow the API server."""
        self._thread.start()

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._readable

    def poll(self) -> list[Event]:
        """The events since the last call. Raises SourceEndedError where there will be no more."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._readable)
        if self._ended is not None:
            raise SourceEndedError("the thread that follows the API server has ended") from self._ended
        # Read before the events: what it speaks of is among them.
        watches = self._watches
        revision, synced = (watches.revision, watches.synced) if watches is not None else (0, False)
        found = [self._events.popleft() for _ in range(len(self._events))]
        self._synced = synced
        with self._lock:
            self._polled = revision
            for event in found:
                self._view.see(event)
        return found

    def synced(self) -> bool:
        """Whether everything was emitted once, and polled."""
        return self._synced

    def problems(self) -> list[Problem]:
        """Objects that can't be read."""
        return sorted(self._watches.problems.values()) if self._watches is not None else []

    def close(self) -> None:
        """Stop following."""
        loop, task = self._loop, self._task
        if loop is not None and task is not None and not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)
        self._thread.join(5)
        os.close(self._readable)

    def restarted(self, tables: NodeTables) -> None:
        """As `Outlet.restarted`."""
        with self._lock:
            self._view.entries.restart(tables)
            self._view.settle(self._polled)
        self._tell()

    def committed(self, delta: NodeDelta) -> None:
        """As `Outlet.committed`."""
        with self._lock:
            self._view.entries.change(delta)
            self._view.settle(self._polled)
        self._tell()

    def secured(
        self, conditions: Sequence[NodeCondition], remarks: Sequence[Condition], xdp_modes: Mapping[str, str]
    ) -> None:
        """As `Outlet.secured`."""
        with self._lock:
            self._view.shortcomings, self._view.remarks = conditions, remarks
            self._view.xdp_modes = xdp_modes
        self._tell()

    def _tell(self) -> None:
        """Let the other thread report; many calls become one report."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._due.set)

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        os.eventfd_write(self._readable, 1)

    def _run_thread(self) -> None:
        try:
            asyncio.run(self._run())
        except asyncio.CancelledError:
            return
        except BaseException as error:
            log.exception("following the API server has ended")
            self._ended = error
            os.eventfd_write(self._readable, 1)

    async def _run(self) -> None:
        configuration = await load_configuration(self._kubeconfig)
        self._task = asyncio.current_task()
        async with HttpApi(configuration, "wildcard-agent") as api, asyncio.TaskGroup() as group:
            writer = NodeStateWriter(api, self._node, on_error=self._not_written)
            watches = Watches(api, self._node, self._namespace, self._emit, writer.set_owner, self._not_read)
            self._watches, self._loop = watches, asyncio.get_running_loop()
            group.create_task(watches.run())
            group.create_task(writer.run())
            group.create_task(self._report(watches, writer))

    async def _report(self, watches: Watches, writer: NodeStateWriter) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            with self._lock:
                report = self._view.report(synced=watches.synced)
            writer.report(report)
            await asyncio.sleep(REPORT_SECONDS)

    def _not_read(self, resource: Resource, error: ApiError) -> None:
        log.warning("watch failed", resource=resource.plural, status=error.status, error=str(error))

    def _not_written(self, error: ApiError) -> None:
        log.warning("state not reported", status=error.status, error=str(error))
