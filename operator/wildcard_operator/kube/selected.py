# SPDX-License-Identifier: Apache-2.0
"""Follows the published objects that speak of some namespaces, while the choice of these changes.

The new watch is opened and read in before the old one is closed, so nothing of what both pick is ever missed;
what only the old one picked is removed when the new one is in sync.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from wildcard_operator.kube.publish import label_selector
from wildcard_operator.kube.reflector import Reflector

if TYPE_CHECKING:
    from collections.abc import Callable

    from wildcard_operator.kube.api import Api, ApiError, Resource
    from wildcard_operator.kube.reflector import Store


class SelectedReflector:
    """Lists and watches what the latest choice of namespaces picks, until its `run` is cancelled.

    Parameters:
        on_synced: called with the namespaces, None for all, each time that all there is of them has been put.

    Attributes:
        synced_for: The namespaces of the last call of `on_synced`.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        namespace: str,
        store: Store,
        on_error: Callable[[Resource, ApiError], None],
        on_synced: Callable[[frozenset[str] | None], None],
    ) -> None:
        self.resource = resource
        self.synced_for: frozenset[str] | None = frozenset()
        self._api = api
        self._namespace = namespace
        self._store = store
        self._on_error = on_error
        self._on_synced = on_synced
        self._wanted: frozenset[str] | None = frozenset()
        self._chosen = asyncio.Event()
        self._selects = False
        self._current: Reflector | None = None

    @property
    def version(self) -> int:
        """The resourceVersion up to which every change was handed on; 0 before the first list."""
        return self._current.version if self._current is not None else 0

    def select(self, namespaces: frozenset[str] | None) -> None:
        """Follow the objects that speak of these namespaces or of the whole cluster; None: of all."""
        if not self._selects or namespaces != self._wanted:
            self._selects, self._wanted = True, namespaces
            self._chosen.set()

    async def run(self) -> None:
        """Follow the collection for good."""
        watch: asyncio.Task[None] | None = None
        try:
            while True:
                await self._chosen.wait()
                watch = await self._switch(watch)
        finally:
            if watch is not None:
                watch.cancel()

    async def _switch(self, old: asyncio.Task[None] | None) -> asyncio.Task[None]:
        """Open the watch of the choice, wait until it is in sync, and close the old one."""
        namespaces = self._wanted
        self._chosen.clear()
        reflector = Reflector(
            self._api,
            self.resource,
            self._store,
            namespace=self._namespace,
            selectors={} if namespaces is None else {"labelSelector": label_selector(namespaces)},
            on_error=self._on_error,
        )
        new = asyncio.create_task(reflector.run())
        try:
            await reflector.synced.wait()
            if old is not None:
                old.cancel()
                await asyncio.gather(old, return_exceptions=True)
        except asyncio.CancelledError:
            for task in (new, old):
                if task is not None:
                    task.cancel()
            raise
        if self._current is not None:
            self._store.forget(self._current.keys - reflector.keys)
        self._current, self.synced_for = reflector, namespaces
        self._on_synced(namespaces)
        return new
