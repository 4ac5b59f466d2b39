# SPDX-License-Identifier: Apache-2.0
"""Follows one collection of the API server: every object is handed to a sink, once as it is and again at
every change.

A list is read in one stream (WatchList) where the server has it, else in consistent pages; never at
resourceVersion 0, which may answer with the past. Whatever ends a watch, the sink's set is right again after
the next list: what was listed is put, what was not is removed. So a deletion that nobody saw, across a 410,
is seen as one.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Protocol

from wildcard_operator.kube.api import (
    BAD_REQUEST,
    GONE,
    JSON,
    METADATA_LIST,
    METADATA_WATCH,
    PAGE_SIZE,
    UNPROCESSABLE,
    UNREACHABLE,
    ApiError,
    Json,
    key_of,
)
from wildcard_operator.kube.backoff import Backoff
from wildcard_operator.kube.slices import Slices

if TYPE_CHECKING:
    from collections.abc import Callable

    from wildcard_operator.kube.api import Api, Resource

Key = tuple[str, str]

WATCH_SECONDS = (300, 600)
# A watch that ends sooner counts as failed, or the server would be asked without a pause.
SHORT_WATCH_SECONDS = 1.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Sink(Protocol):
    """Takes the objects of a collection. It must not raise: one bad object may not keep the others out."""

    def put(self, item: Json) -> None:
        """An object is there, or is there in a new state. The sink owns the dict."""
        ...

    def remove(self, key: Key) -> None:
        """The object is no longer there."""
        ...


class Store:
    """Which objects a sink has, and in which version.

    Two reflectors may share one while a changed selector replaces a watch: of two states of an object the
    newer wins, whichever stream brings it. Resource versions are compared as numbers, as the API promises
    since Kubernetes 1.35 and has always kept.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._versions: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._versions)

    def put(self, item: Json) -> Key:
        """Hand a new state to the sink; one that it has, or is older, changes nothing."""
        key = key_of(item)
        version = int(item["metadata"]["resourceVersion"])
        if self._versions.get(key, -1) < version:
            self._versions[key] = version
            self._sink.put(item)
        return key

    def remove(self, key: Key, version: int) -> None:
        """Take an object from the sink, unless it is there in a newer state."""
        known = self._versions.get(key)
        if known is not None and known <= version:
            del self._versions[key]
            self._sink.remove(key)

    def forget(self, keys: set[Key]) -> None:
        """Take these objects from the sink, in whatever state they are there."""
        for key in keys:
            if self._versions.pop(key, None) is not None:
                self._sink.remove(key)


class Reflector:
    """Lists and watches one collection until its `run` is cancelled.

    Parameters:
        selectors: `labelSelector` and `fieldSelector`, where not all objects are wanted.
        metadata_only: leave `spec` and `status` with the server.
        on_error: called with every failed request, for logs and metrics.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        store: Store,
        *,
        namespace: str | None = None,
        selectors: dict[str, str] | None = None,
        metadata_only: bool = False,
        on_error: Callable[[Resource, ApiError], None] = lambda _resource, _error: None,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self.keys: set[Key] = set()
        self._api = api
        self._store = store
        self._path = resource.path(namespace)
        self._selectors = selectors or {}
        self._metadata_only = metadata_only
        self._on_error = on_error
        self._backoff = Backoff()
        self._version: str | None = None
        self._streams_lists = True
        self._listing: set[Key] | None = None
        self._slices = Slices()

    @property
    def version(self) -> int:
        """The resourceVersion up to which every change was handed on; 0 before the first list."""
        return int(self._version or 0)

    async def run(self) -> None:
        """Follow the collection for good."""
        while True:
            try:
                await self._follow()
            except ApiError as error:
                if error.status == GONE:
                    self._version = None
                self._on_error(self.resource, error)
                delay = self._backoff.delay(error.retry_after)
                # Of all watches on a server that was away, the first that reaches it wakes the others.
                await (self._api.pause(delay) if error.status == UNREACHABLE else asyncio.sleep(delay))

    async def _follow(self) -> None:
        """One watch, after a list where the last one is of no more use."""
        if self._version is not None:
            started = time.monotonic()
            await self._stream({"resourceVersion": self._version})
            if time.monotonic() - started < SHORT_WATCH_SECONDS:
                await asyncio.sleep(self._backoff.delay())
        elif self._streams_lists:
            await self._stream_list()
        else:
            await self._list_pages()

    async def _stream_list(self) -> None:
        self._begin_list()
        try:
            await self._stream({"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"})
        except ApiError as error:
            if error.status not in {BAD_REQUEST, UNPROCESSABLE}:
                raise
            self._streams_lists = False

    def _begin_list(self) -> None:
        self.keys |= self._listing or set()  # a list that broke off has put some
        self._listing = set()

    async def _list_pages(self) -> None:
        self._begin_list()
        query = {**self._selectors, "limit": str(PAGE_SIZE)}
        accept = METADATA_LIST if self._metadata_only else JSON
        while True:
            page = await self._api.request("GET", self._path, query=query, accept=accept)
            for item in page.pop("items"):
                self._put(item)
                await self._slices.breathe()
            token = page["metadata"].get("continue")
            if not token:
                break
            query["continue"] = token
        self._finish_list(page["metadata"]["resourceVersion"])

    async def _stream(self, query: dict[str, str]) -> None:
        query = {
            **self._selectors,
            **query,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),  # noqa: S311 - spreads load, guards nothing
        }
        events = self._api.watch(self._path, query, accept=METADATA_WATCH if self._metadata_only else JSON)
        try:
            async for event in events:
                self._handle(event)
                await self._slices.breathe()
        finally:
            await events.aclose()

    def _handle(self, event: Json) -> None:
        item = event["object"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._put(item)
            case "DELETED":
                self.keys.discard(key_of(item))
                self._store.remove(key_of(item), int(item["metadata"]["resourceVersion"]))
            case "ERROR":
                raise ApiError(
                    int(item.get("code", 0)), str(item.get("reason", "")), str(item.get("message", ""))
                )
            case "BOOKMARK":
                if INITIAL_EVENTS_END in (item["metadata"].get("annotations") or {}):
                    self._finish_list(item["metadata"]["resourceVersion"])
            case unknown:
                raise ApiError(UNREACHABLE, "UnknownEvent", f"watch of {self._path}: event {unknown!r}")
        if self._listing is None:
            self._version = item["metadata"]["resourceVersion"]
            self._backoff.reset()

    def _put(self, item: Json) -> None:
        key = self._store.put(item)
        (self.keys if self._listing is None else self._listing).add(key)

    def _finish_list(self, version: str) -> None:
        listed = self._listing or set()
        for key in self.keys - listed:
            self._store.remove(key, int(version))
        self.keys, self._listing = listed, None
        self._version = version
        self._backoff.reset()
        self.synced.set()
