# SPDX-License-Identifier: Apache-2.0
"""An API server in memory: versions, pages, watches with a bounded past, preconditions, server-side apply,
and trouble on demand. It knows any resource; what it doesn't do (schemas, admission) the tests of
`tests/cluster` do with a real one.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from wildcard_operator.kube.api import (
    CONFLICT,
    GONE,
    JSON,
    MERGE_PATCH,
    NOT_FOUND,
    UNPROCESSABLE,
    ApiError,
    Json,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

ALREADY_EXISTS = "AlreadyExists"


@dataclass
class _Event:
    version: int
    kind: str
    item: Json


@dataclass
class _Collection:
    items: dict[tuple[str, str], Json] = field(default_factory=dict)
    events: list[_Event] = field(default_factory=list)
    oldest: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class FakeApi:
    """The server and a connection to it at once; `requests` is what was asked, for tests to count."""

    def __init__(self, *, streams_lists: bool = True, page_size: int | None = None) -> None:
        self.requests: list[tuple[str, str]] = []
        self.streams_lists = streams_lists
        self.page_size = page_size
        self.open_watches = 0
        self._collections: dict[str, _Collection] = {}
        self._version = itertools.count(100)
        self._current = 100
        self._trouble: list[tuple[str, str, ApiError]] = []
        self._interference: tuple[str, Callable[[], object]] | None = None
        self._generation = 0

    def fail_next(self, error: ApiError, method: str = "", path: str = "", times: int = 1) -> None:
        """Answer the next matching requests with an error; a watch has the method WATCH."""
        self._trouble += [(method, path, error)] * times

    def before_next(self, method: str, action: Callable[[], object]) -> None:
        """Do something else just before the next request with this method is carried out."""
        self._interference = (method, action)

    def heal(self) -> None:
        """End all trouble."""
        self._trouble.clear()

    def put(self, path: str, item: Json) -> Json:
        """Create or replace an object from outside; `path` is that of all its kind, of any namespace."""
        collection = self._collection(path)
        item = copy.deepcopy(item)
        metadata = item["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        old = collection.items.get(key)
        metadata["uid"] = old["metadata"]["uid"] if old else str(uuid.uuid4())
        self._store(collection, key, item, "MODIFIED" if old else "ADDED")
        return item

    def delete(self, path: str, namespace: str, name: str) -> None:
        """Delete an object from outside."""
        collection = self._collection(path)
        item = copy.deepcopy(collection.items.pop((namespace, name)))
        self._record(collection, item, "DELETED")

    def items(self, path: str) -> list[Json]:
        """The objects of a collection."""
        return [copy.deepcopy(item) for item in self._collection(path).items.values()]

    def compact(self, path: str) -> None:
        """Forget the past: whoever watches from it gets a 410."""
        collection = self._collection(path)
        collection.oldest = self._current
        collection.events.clear()

    def break_watches(self) -> None:
        """End all open watches, as a restarted server would."""
        self._generation += 1
        for collection in self._collections.values():
            collection.changed.set()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout: float = 60,
    ) -> Json:
        """As `Api.request`."""
        await asyncio.sleep(0)
        self._admit(method, path)
        collection_path, namespace, name = _split(path)
        collection = self._collection(collection_path)
        match method:
            case "GET" if name is None:
                return self._list(collection, namespace, dict(query or {}))
            case "GET":
                return copy.deepcopy(self._existing(collection, (namespace, name or "")))
            case "DELETE":
                return self._delete(collection, (namespace, name or ""), body or {})
            case "POST":
                name = (body or {})["metadata"]["name"]
                if (namespace, name) in collection.items:
                    raise ApiError(CONFLICT, ALREADY_EXISTS, f"{name} exists")
        return self._write(collection, (namespace, name or ""), body or {}, content_type)

    async def watch(
        self, path: str, query: Mapping[str, str], *, accept: str = JSON
    ) -> AsyncGenerator[Json, None]:
        """As `Api.watch`."""
        self._admit("WATCH", path)
        collection_path, namespace, _ = _split(path)
        collection = self._collection(collection_path)
        self.open_watches += 1
        generation = self._generation
        try:
            if "sendInitialEvents" in query:
                if not self.streams_lists:
                    raise ApiError(UNPROCESSABLE, "Invalid", "sendInitialEvents is forbidden")
                after = self._current
                for item in _selected(collection, namespace, query):
                    yield {"type": "ADDED", "object": copy.deepcopy(item)}
                mark = {"resourceVersion": str(after), "annotations": {"k8s.io/initial-events-end": "true"}}
                yield {"type": "BOOKMARK", "object": {"metadata": mark}}
            else:
                after = int(query["resourceVersion"])
                if after < collection.oldest:
                    status = {"code": GONE, "reason": "Expired", "message": "too old resource version"}
                    yield {"type": "ERROR", "object": status}
                    return
            while self._generation == generation:
                for event in [event for event in collection.events if event.version > after]:
                    after = event.version
                    if _matches(event.item, namespace, query):
                        yield {"type": event.kind, "object": copy.deepcopy(event.item)}
                collection.changed.clear()
                if not any(event.version > after for event in collection.events):
                    await collection.changed.wait()
        finally:
            self.open_watches -= 1

    async def pause(self, seconds: float) -> None:
        """As `Api.pause`, but for being woken."""
        await asyncio.sleep(seconds)

    def writes(self) -> list[tuple[str, str]]:
        """The requests that changed something, or tried to."""
        return [request for request in self.requests if request[0] not in {"GET", "WATCH"}]

    def _admit(self, method: str, path: str) -> None:
        self.requests.append((method, path))
        if self._interference is not None and self._interference[0] == method:
            (_, action), self._interference = self._interference, None
            action()
        for place, (asked, where, error) in enumerate(self._trouble):
            if method.startswith(asked) and path.startswith(where):
                del self._trouble[place]
                raise error

    def _collection(self, path: str) -> _Collection:
        return self._collections.setdefault(path, _Collection())

    def _existing(self, collection: _Collection, key: tuple[str, str]) -> Json:
        if key not in collection.items:
            raise ApiError(NOT_FOUND, "NotFound", f"{key[1]} not found")
        return collection.items[key]

    def _list(self, collection: _Collection, namespace: str, query: dict[str, str]) -> Json:
        items = [copy.deepcopy(item) for item in _selected(collection, namespace, query)]
        start, limit = int(query.get("continue", 0)), self.page_size or int(query.get("limit", 10**9))
        metadata = {"resourceVersion": str(self._current)}
        if start + limit < len(items):
            metadata["continue"] = str(start + limit)
        return {"metadata": metadata, "items": items[start : start + limit]}

    def _delete(self, collection: _Collection, key: tuple[str, str], body: Json) -> Json:
        item = self._existing(collection, key)
        preconditions = body.get("preconditions", {})
        for name in ("uid", "resourceVersion"):
            if preconditions.get(name, item["metadata"][name]) != item["metadata"][name]:
                raise ApiError(CONFLICT, "Conflict", f"{name} differs")
        self._record(collection, copy.deepcopy(collection.items.pop(key)), "DELETED")
        return {"kind": "Status", "status": "Success"}

    def _write(self, collection: _Collection, key: tuple[str, str], body: Json, content_type: str) -> Json:
        old = collection.items.get(key)
        given = body["metadata"].get("resourceVersion")
        uid = body["metadata"].get("uid")
        if old is None and uid is not None:
            raise ApiError(CONFLICT, "Conflict", "uid differs")
        if (
            old is not None
            and (given or old["metadata"]["resourceVersion"]) != old["metadata"]["resourceVersion"]
        ):
            raise ApiError(CONFLICT, "Conflict", "the object has been modified")
        item = copy.deepcopy(body)
        if old is not None and content_type != JSON:
            item = {**copy.deepcopy(old), **item, "metadata": {**old["metadata"], **item["metadata"]}}
            if content_type == MERGE_PATCH:
                item["spec"] = {**old.get("spec", {}), **item.get("spec", {})}
        item["metadata"] |= {"name": key[1], "uid": old["metadata"]["uid"] if old else str(uuid.uuid4())}
        if key[0]:
            item["metadata"]["namespace"] = key[0]
        if item["metadata"].get("managedFields") == [{}]:  # asks for none
            del item["metadata"]["managedFields"]
        self._store(collection, key, item, "MODIFIED" if old else "ADDED")
        return copy.deepcopy(item)

    def _store(self, collection: _Collection, key: tuple[str, str], item: Json, kind: str) -> None:
        collection.items[key] = item
        self._record(collection, item, kind)

    def _record(self, collection: _Collection, item: Json, kind: str) -> None:
        self._current = next(self._version) + 1
        item["metadata"]["resourceVersion"] = str(self._current)
        collection.events.append(_Event(self._current, kind, copy.deepcopy(item)))
        collection.changed.set()


def _split(path: str) -> tuple[str, str, str | None]:
    """The collection's path without a namespace, the namespace, and the object's name."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    head, rest = (parts[:2], parts[2:]) if parts[0] == "api" else (parts[:3], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    return "/" + "/".join([*head, rest[0]]), namespace, rest[1] if len(rest) > 1 else None


def _selected(collection: _Collection, namespace: str, query: Mapping[str, str]) -> list[Json]:
    return [item for item in collection.items.values() if _matches(item, namespace, query)]


def _matches(item: Json, namespace: str, query: Mapping[str, str]) -> bool:
    """Of selectors it knows `key in (a,b)`, `metadata.name=a` and `spec.nodeName=a`, as they are sent."""
    metadata: dict[str, Any] = item["metadata"]
    if namespace and metadata.get("namespace", "") != namespace:
        return False
    spec = item.get("spec")
    node = spec.get("nodeName") if isinstance(spec, dict) else None
    if query.get("fieldSelector") not in {None, f"metadata.name={metadata['name']}", f"spec.nodeName={node}"}:
        return False
    selector = query.get("labelSelector")
    if not selector:
        return True
    key, _, values = selector.partition(" in ")
    return metadata.get("labels", {}).get(key) in values.strip("()").split(",")
