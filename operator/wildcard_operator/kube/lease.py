# SPDX-License-Identifier: Apache-2.0
"""Leader election on a Lease, in a thread of its own: no computation of the process can delay the renewal.

A leader trusts itself for less time than others wait before they take over, both counted on monotonic clocks:
it stops writing before anybody else starts, also when it was frozen in between.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wildcard_operator.kube.api import CONFLICT, LEASES, MERGE_PATCH, NOT_FOUND, ApiError, Json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from wildcard_operator.kube.api import Api


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds: others take over after `duration` without a renewal; the holder gives up after `trust`."""

    duration: int = 15
    trust: float = 10.0
    retry: float = 2.0


class Election:
    """Whether this process leads.

    Parameters:
        connect: opens a connection of its own in the thread's event loop.
        identity: unique to this process.
        changed: called in the thread with True or False when leadership begins and ends.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Api]],
        namespace: str,
        name: str,
        identity: str,
        changed: Callable[[bool], None],
        times: LeaseTimes = LeaseTimes(),
    ) -> None:
        self._connect = connect
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._changed = changed
        self._times = times
        self._trusted_until = 0.0
        self._leads = False
        # What the Lease said last, and when that was first seen here.
        self._seen: tuple[str, str] | None = None
        self._seen_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run_thread, name="lease", daemon=True)

    def held(self) -> bool:
        """Whether this process may write at this moment; any thread may ask."""
        return time.monotonic() < self._trusted_until

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to take part."""
        self._thread.start()

    def stop(self) -> None:
        """Give the Lease up, so that the other replica need not wait for its end, and end the thread."""
        self._stop.set()
        self._thread.join(self._times.retry + 5)

    def _run_thread(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with self._connect() as api:
            async for _ in self._rounds():
                sent = time.monotonic()
                try:
                    if await self._acquire(api):
                        self._trusted_until = sent + self._times.trust
                except ApiError:
                    pass  # trust runs out by itself
                self._tell()
            self._trusted_until = 0.0
            if self._leads:
                await self._release(api)
            self._tell()

    async def _rounds(self) -> AsyncIterator[None]:
        while not self._stop.is_set():
            yield
            await asyncio.to_thread(self._stop.wait, self._times.retry)

    def _tell(self) -> None:
        if self.held() != self._leads:
            self._leads = not self._leads
            self._changed(self._leads)

    async def _acquire(self, api: Api) -> bool:
        """Create, renew or take the Lease. False where another holds it. Raises ApiError."""
        path = LEASES.path(self._namespace, self._name)
        try:
            lease = await api.request("GET", path, timeout=self._times.retry)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            body = {"metadata": {"name": self._name}, "spec": self._spec({})}
            return await self._write(api, "POST", LEASES.path(self._namespace), body)
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") not in {self._identity, "", None} and not self._has_expired(spec):
            return False
        lease["spec"] = self._spec(spec)
        return await self._write(api, "PUT", path, lease)

    async def _write(self, api: Api, method: str, path: str, body: Json) -> bool:
        body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, **body}
        try:
            await api.request(method, path, body=body, timeout=self._times.retry)
        except ApiError as error:
            if error.status == CONFLICT:  # the other replica was faster
                return False
            raise
        return True

    def _has_expired(self, spec: Json) -> bool:
        """Whether the holder has not renewed for its whole duration, on this process's own clock."""
        seen = (str(spec.get("holderIdentity")), str(spec.get("renewTime")))
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        return time.monotonic() - self._seen_at > int(
            spec.get("leaseDurationSeconds") or self._times.duration
        )

    def _spec(self, old: Json) -> Json:
        now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        mine = old.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._times.duration,
            "acquireTime": old.get("acquireTime") if mine else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if mine or not old else 1),
        }

    async def _release(self, api: Api) -> None:
        path = LEASES.path(self._namespace, self._name)
        try:
            lease = await api.request("GET", path, timeout=self._times.retry)
            if lease["spec"].get("holderIdentity") == self._identity:
                body = {"metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]}}
                body["spec"] = {"holderIdentity": ""}
                await api.request(
                    "PATCH", path, body=body, content_type=MERGE_PATCH, timeout=self._times.retry
                )
        except ApiError:
            pass  # it runs out by itself
