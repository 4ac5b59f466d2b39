# SPDX-License-Identifier: Apache-2.0
"""Follows the part of a collection that a label selector picks, while the selector changes.

The new watch is opened and read in before the old one is closed, so nothing of what both pick is ever missed;
what only the old one picked is removed when the new one is in sync.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wildcard_operator.kube.reflector import Reflector, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from wildcard_operator.kube.api import Api, ApiError, Resource
    from wildcard_operator.kube.reflector import Sink


class SelectedReflector:
    """Lists and watches what the latest selector picks, until its `run` is cancelled.

    Parameters:
        on_synced: called with the selector's subject each time that all it picks has been put.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        namespace: str,
        sink: Sink,
        *,
        on_error: Callable[[Resource, ApiError], None],
        on_synced: Callable[[str | None], None],
    ) -> None:
        self.resource = resource
        self._api = api
        self._namespace = namespace
        self._store = Store(sink)
        self._on_error = on_error
        self._on_synced = on_synced
        self._selector: str | None = None
        self._selects = False
        self._chosen = asyncio.Event()
        self._current: Reflector | None = None

    @property
    def version(self) -> int:
        """The resourceVersion up to which every change was handed on; 0 before the first list."""
        return self._current.version if self._current is not None else 0

    def select(self, selector: str | None) -> None:
        """Follow what this label selector picks from now on; None: everything."""
        if not self._selects or selector != self._selector:
            self._selects, self._selector = True, selector
            self._chosen.set()

    async def run(self) -> None:
        """Follow the collection for good."""
        old: asyncio.Task[None] | None = None
        try:
            while True:
                await self._chosen.wait()
                old = await self._switch(old)
        finally:
            if old is not None:
                old.cancel()

    async def _switch(self, old: asyncio.Task[None] | None) -> asyncio.Task[None]:
        """Open the watch of the selector, wait until it is in sync, and close the old one."""
        selector = self._selector
        self._chosen.clear()
        reflector = Reflector(
            self._api,
            self.resource,
            self._store,
            namespace=self._namespace,
            selectors={} if selector is None else {"labelSelector": selector},
            on_error=self._on_error,
        )
        task = asyncio.create_task(reflector.run())
        try:
            await reflector.synced.wait()
        except asyncio.CancelledError:
            task.cancel()
            raise
        if old is not None:
            old.cancel()
            await asyncio.gather(old, return_exceptions=True)
        if self._current is not None:
            self._store.forget(self._current.keys - reflector.keys)
        self._current = reflector
        self._on_synced(selector)
        return task
