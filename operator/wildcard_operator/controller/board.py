# SPDX-License-Identifier: Apache-2.0
"""Keeps the status of every WildcardFilter right, and tells what changed in it as Events."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wildcard_operator.controller.status import ACCEPTED, CONFLICTED, PROGRAMMED, FilterVerdict, filter_status
from wildcard_operator.kube.api import CONFLICT, MERGE_PATCH, NOT_FOUND, WILDCARD_FILTERS, ApiError, Json
from wildcard_operator.kube.backoff import Backoff
from wildcard_operator.kube.nodestate import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wildcard_operator.controller.world import World
    from wildcard_operator.kube.api import Api

# Statuses are computed again at most this often: a thousand nodes that report must not cause a thousand
# writes.
INTERVAL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Notice:
    """An Event to post about a filter."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _Seen:
    version: str
    status: Json


class Board:
    """The statuses, as they are and as they should be.

    `verdicts` gives those of all filters by name; `leads` tells whether this process writes and tells.
    """

    def __init__(
        self,
        api: Api,
        world: World,
        verdicts: Callable[[], Mapping[str, FilterVerdict]],
        leads: Callable[[], bool],
    ) -> None:
        self._api = api
        self._world = world
        self._verdicts = verdicts
        self._leads = leads
        self._seen: dict[str, _Seen] = {}
        self._dirty = asyncio.Event()

    def touch(self) -> None:
        """Something changed that a status may depend on."""
        self._dirty.set()

    def see(self, body: Mapping[str, Any], *, gone: bool, first: bool) -> list[Notice]:
        """A filter is there, or gone, with this status; returns what changed in it, for the leader to tell.

        `first` is the first look at a filter that was there before this process.
        """
        name = body["metadata"]["name"]
        before = self._seen.pop(name, None)
        if gone:
            return []
        status = copy.deepcopy(dict(body.get("status") or {}))
        self._seen[name] = _Seen(body["metadata"]["resourceVersion"], status)
        self._dirty.set()
        if first or not self._leads():
            return []
        return notices(before.status if before is not None else {}, status)

    async def run(self) -> None:
        """Write until cancelled."""
        backoff = Backoff(first=INTERVAL_SECONDS)
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            if self._leads():
                try:
                    await self._write_all()
                    backoff.reset()
                except ApiError as error:
                    self._dirty.set()
                    await asyncio.sleep(backoff.delay(error.retry_after))
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _write_all(self) -> None:
        verdicts = self._verdicts()
        for name, seen in list(self._seen.items()):
            verdict = verdicts.get(name)
            if verdict is None:
                continue
            status = filter_status(name, verdict, self._world, seen.status, utc_now())
            if status != seen.status:
                await self._write(name, seen, status)
            await asyncio.sleep(0)

    async def _write(self, name: str, seen: _Seen, status: Json) -> None:
        body = {"metadata": {"resourceVersion": seen.version}, "status": status}
        path = WILDCARD_FILTERS.path(name=name, subresource="status")
        try:
            await self._api.request("PATCH", path, body=body, content_type=MERGE_PATCH)
        except ApiError as error:
            if error.status not in {CONFLICT, NOT_FOUND}:  # else its next state, or its end, is on the way
                raise


def notices(before: Json, now: Json) -> list[Notice]:
    """What a changed status is worth telling: conditions that hold otherwise, or for another reason."""
    old = {one["type"]: (one["status"], one["reason"]) for one in before.get("conditions", [])}
    changed = [
        one for one in now.get("conditions", []) if old.get(one["type"]) != (one["status"], one["reason"])
    ]
    found = [_notice(one["type"], one["status"] == "True", one["reason"], one["message"]) for one in changed]
    return [notice for notice in found if notice is not None]


def _notice(condition: str, holds: bool, reason: str, message: str) -> Notice | None:
    if condition == ACCEPTED:
        return (
            Notice("Normal", reason, message)
            if holds
            else Notice("Warning", "Refused", f"{reason}: {message}")
        )
    if condition == PROGRAMMED and holds:
        return Notice("Normal", PROGRAMMED, message)
    if condition == PROGRAMMED and reason == "Failed":
        return Notice("Warning", "ProgrammingFailed", message)
    if condition == CONFLICTED and holds:
        return Notice("Warning", CONFLICTED, message)
    return None
