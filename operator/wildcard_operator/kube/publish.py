# SPDX-License-Identifier: Apache-2.0
"""Makes the operator's objects on the API server equal to the wanted ones, with as few writes as that takes.

What is there is known from a watch, so a restarted operator adopts it and writes only what differs; what
others change is set right. Every write says what it builds on: an update and a delete the object's uid and
resourceVersion, a create that there is none. So a leader that slept overwrites nothing that its successor
wrote.

Objects are created and replaced as a whole, not applied: nobody else has a say in them, and a replacement
costs the API server half of what an apply costs.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wildcard_operator.kube.api import (
    CONFLICT,
    NOT_FOUND,
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    UNREACHABLE,
    ApiError,
    Json,
    Resource,
)
from wildcard_operator.kube.backoff import Backoff
from wildcard_operator.kube.limits import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wildcard_operator.kube.api import Api
    from wildcard_operator.kube.reflector import Key

# On every published object: the namespace that it speaks of, "" for cluster-wide filters. Agents select by
# it.
NAMESPACE_LABEL = "wildcard-operator.io/namespace"
# Takes the server's record of who set which field off an object, and keeps it off: it has one owner, and the
# record would be a third of what every agent reads of a changed address.
NO_RECORD_OF_OWNERS: list[Json] = [{}]
WRITERS = 16
NOT_LEADING_SECONDS = 1.0

Place = tuple[Resource, str]


class Content(Protocol):
    """A wanted object."""

    def to_dict(self) -> Json:
        """Its `spec`."""
        ...


class PublishObserver(Protocol):
    """Hears of every write, for metrics and logs."""

    def written(self, resource: Resource, verb: str, waited: float, took: float) -> None:
        """A write succeeded, `waited` seconds after it was wanted and `took` seconds after it was sent."""
        ...

    def failed(self, resource: Resource, verb: str, error: ApiError) -> None:
        """A write failed and will be tried again where it still makes sense."""
        ...


@dataclass(frozen=True, slots=True)
class _Wanted:
    content: Content
    of_namespace: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Actual:
    digest: bytes
    uid: str
    version: int


class Publisher:
    """Writes the wanted objects of one namespace.

    Parameters:
        may_write: asked before every write; False while this process doesn't lead.
        qps: writes a second, in the long run.

    Attributes:
        active: Whether it writes; `activate` and `deactivate` set it.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        *,
        qps: float,
        may_write: Callable[[], bool],
        observer: PublishObserver,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._limit = TokenBucket(qps)
        self._may_write = may_write
        self._observer = observer
        self._wanted: dict[Place, _Wanted] = {}
        self._actual: dict[Place, _Actual] = {}
        self._since: dict[Place, float] = {}  # when a change was wanted that isn't written yet
        self._due: dict[Place, float] = {}
        self._queue: list[tuple[float, int, Place]] = []
        self._order = itertools.count()
        self._busy: set[Place] = set()
        self._failures: dict[Place, Backoff] = {}
        self._trouble = Backoff()
        self._paused_until = 0.0
        self._wake = asyncio.Event()
        self.active = False

    @property
    def writes(self) -> bool:
        """Whether it writes at this moment: it is active, and this process leads."""
        return self.active and self._may_write()

    @property
    def pending(self) -> int:
        """Objects that differ from what is wanted, as far as it is known."""
        return len(self._due) + len(self._busy)

    def counts(self) -> dict[Resource, int]:
        """How many objects of each resource are there."""
        counts: dict[Resource, int] = {}
        for resource, _ in self._actual:
            counts[resource] = counts.get(resource, 0) + 1
        return counts

    def version(self, resource: Resource, name: str) -> int | None:
        """The resourceVersion of a wanted object; None while it isn't there as it is wanted."""
        wanted, actual = self._wanted.get((resource, name)), self._actual.get((resource, name))
        if wanted is None or actual is None or wanted.digest != actual.digest:
            return None
        return actual.version

    def want(
        self, resource: Resource, name: str, content: Content, of_namespace: str, delay: float = 0
    ) -> None:
        """An object is to be there with this content, within `delay` seconds."""
        place = (resource, name)
        self._wanted[place] = _Wanted(content, of_namespace, digest_of(of_namespace, content.to_dict()))
        self._reconsider(place, delay)

    def drop(self, resource: Resource, name: str, delay: float = 0) -> None:
        """An object isn't to be there any more."""
        place = (resource, name)
        self._wanted.pop(place, None)
        self._reconsider(place, delay)

    def activate(self) -> None:
        """Begin to write: this process leads, and knows what is wanted and what is there."""
        self.active = True
        for place in self._wanted.keys() | self._actual.keys():
            self._reconsider(place, 0)

    def deactivate(self) -> None:
        """Write no more; what is wanted is kept."""
        self.active = False
        self._due.clear()
        self._since.clear()

    def sink(self, resource: Resource) -> PublishedSink:
        """What takes the watched objects of a resource."""
        return PublishedSink(self, resource)

    def observe(self, resource: Resource, item: Json) -> None:
        """An object is there, as the API server says."""
        place = (resource, item["metadata"]["name"])
        if self._learn(place, item):
            self._reconsider(place, 0)

    def observe_gone(self, resource: Resource, name: str) -> None:
        """An object is no longer there."""
        self._actual.pop((resource, name), None)
        self._reconsider((resource, name), 0)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write_all())

    def _differs(self, place: Place) -> bool:
        wanted, actual = self._wanted.get(place), self._actual.get(place)
        return (wanted and wanted.digest) != (actual and actual.digest)

    def _reconsider(self, place: Place, delay: float) -> None:
        if not self.active or place in self._busy:
            return
        if not self._differs(place):
            self._due.pop(place, None)
            self._since.pop(place, None)
            return
        now = time.monotonic()
        self._since.setdefault(place, now)
        due = now + delay
        if due < self._due.get(place, float("inf")):
            self._due[place] = due
            heapq.heappush(self._queue, (due, next(self._order), place))
            self._wake.set()

    async def _write_all(self) -> None:
        while True:
            place = await self._next()
            try:
                await asyncio.sleep(max(0.0, self._paused_until - time.monotonic()))
                await self._limit.take()
                delay = await self._write(place) if self.writes else NOT_LEADING_SECONDS
            finally:
                self._busy.discard(place)
            self._reconsider(place, delay)

    async def _next(self) -> Place:
        """The next place that is due, marked as busy."""
        while True:
            now = time.monotonic()
            while self._queue:
                due, _, place = self._queue[0]
                if self._due.get(place) != due:  # written or due at another time meanwhile
                    heapq.heappop(self._queue)
                elif due <= now:
                    heapq.heappop(self._queue)
                    del self._due[place]
                    self._busy.add(place)
                    return place
                else:
                    break
            timeout = self._queue[0][0] - now if self._queue else None
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), timeout)
            except TimeoutError:
                continue

    async def _write(self, place: Place) -> float:
        """Write one object; returns after how many seconds to try again where it still differs."""
        if not self._differs(place):
            return 0
        resource = place[0]
        wanted, actual = self._wanted.get(place), self._actual.get(place)
        verb = "delete" if wanted is None else "create" if actual is None else "update"
        started, since = time.monotonic(), self._since.pop(place, time.monotonic())
        try:
            if wanted is not None:
                await self._put(place, wanted, actual)
            elif actual is not None:
                await self._delete(place, actual)
        except ApiError as error:
            self._since[place] = since
            self._observer.failed(resource, verb, error)
            return await self._recover(place, error)
        self._trouble.reset()
        self._observer.written(resource, verb, started - since, time.monotonic() - started)
        if self._differs(place) and self._wanted.get(place) is wanted:
            # Something between us and the store alters what is sent; don't quarrel with it at full speed.
            return self._failures.setdefault(place, Backoff()).delay()
        self._failures.pop(place, None)
        return 0

    async def _put(self, place: Place, wanted: _Wanted, actual: _Actual | None) -> None:
        resource, name = place
        metadata: Json = {
            "name": name,
            "namespace": self._namespace,
            "labels": {NAMESPACE_LABEL: wanted.of_namespace},
        }
        body: Json = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata,
            "spec": wanted.content.to_dict(),
        }
        if actual is None:
            answer = await self._api.request("POST", resource.path(self._namespace), body=body)
        else:
            metadata |= {
                "uid": actual.uid,
                "resourceVersion": str(actual.version),
                "managedFields": NO_RECORD_OF_OWNERS,
            }
            answer = await self._api.request("PUT", resource.path(self._namespace, name), body=body)
        self._learn(place, answer)

    async def _delete(self, place: Place, actual: _Actual) -> None:
        resource, name = place
        preconditions = {"uid": actual.uid, "resourceVersion": str(actual.version)}
        await self._api.request(
            "DELETE", resource.path(self._namespace, name), body={"preconditions": preconditions}
        )
        self._actual.pop(place, None)

    async def _recover(self, place: Place, error: ApiError) -> float:
        """After a failed write: wait with all of them where the server has trouble, else look at what is
        there.
        """
        now = time.monotonic()
        if error.status in {UNREACHABLE, TOO_MANY_REQUESTS} or error.status >= SERVER_ERROR:
            if now >= self._paused_until:  # the first of the writes that failed together
                self._paused_until = now + self._trouble.delay(error.retry_after)
            return 0
        if error.status in {CONFLICT, NOT_FOUND}:
            await self._look_again(place)
        return self._failures.setdefault(place, Backoff()).delay()

    async def _look_again(self, place: Place) -> None:
        resource, name = place
        try:
            # A list of one needs no right to get.
            query = {"fieldSelector": f"metadata.name={name}"}
            answer = await self._api.request("GET", resource.path(self._namespace), query=query)
        except ApiError:
            return  # the watch tells, later
        for item in answer["items"]:
            self._learn(place, item)
        if not answer["items"]:
            self._actual.pop(place, None)

    def _learn(self, place: Place, item: Json) -> bool:
        """Note an object's state, unless a newer one is known; whether it was news."""
        known = self._actual.get(place)
        if known is not None and known.version >= int(item["metadata"]["resourceVersion"]):
            return False
        self._actual[place] = _actual_of(item)
        return True


class PublishedSink:
    """Hands the watched objects of one resource to the publisher."""

    def __init__(self, publisher: Publisher, resource: Resource) -> None:
        self._publisher = publisher
        self._resource = resource

    def put(self, item: Json) -> None:
        """An object is there, or is there in a new state."""
        self._publisher.observe(self._resource, item)

    def remove(self, key: Key) -> None:
        """The object is no longer there."""
        self._publisher.observe_gone(self._resource, key[1])


def digest_of(of_namespace: object, spec: object) -> bytes:
    """128 bits over what the operator says in an object."""
    text = json.dumps([of_namespace, spec], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _actual_of(item: Json) -> _Actual:
    metadata = item["metadata"]
    of_namespace = (metadata.get("labels") or {}).get(NAMESPACE_LABEL)
    digest = digest_of(of_namespace, item.get("spec"))
    return _Actual(digest, metadata["uid"], int(metadata["resourceVersion"]))


def label_selector(namespaces: Iterable[str]) -> str:
    """A label selector for the published objects that speak of these namespaces or of the whole cluster."""
    return f"{NAMESPACE_LABEL} in ({','.join(['', *sorted(namespaces)])})"
