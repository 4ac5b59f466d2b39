# SPDX-License-Identifier: Apache-2.0
"""A sink has what the latest selector picks, and misses nothing while selectors change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from support.fakeapi import FakeApi
from support.recorder import Recorder
from support.waiting import settled
from wildcard_operator.kube.api import RULE_SETS, UNREACHABLE, ApiError, Json
from wildcard_operator.kube.publish import NAMESPACE_LABEL
from wildcard_operator.kube.reflector import Store
from wildcard_operator.kube.selected import SelectedReflector

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PATH = RULE_SETS.path()


def ruleset(name: str, namespace: str) -> Json:
    return {"metadata": {"namespace": "operator", "name": name, "labels": {NAMESPACE_LABEL: namespace}}}


def follow(
    api: FakeApi, story: Callable[[Recorder, SelectedReflector, list[frozenset[str] | None]], Awaitable[None]]
) -> None:
    async def run() -> None:
        recorder, synced = Recorder(), []
        reflector = SelectedReflector(
            api, RULE_SETS, "operator", Store(recorder), lambda _resource, _error: None, synced.append
        )
        task = asyncio.create_task(reflector.run())
        try:
            await asyncio.wait_for(story(recorder, reflector, synced), 60)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await settled(lambda: api.open_watches == 0)

    asyncio.run(run())


def filled() -> FakeApi:
    api = FakeApi()
    for name, namespace in (("a", "shop"), ("b", "bank"), ("c", "")):
        api.put(PATH, ruleset(name, namespace))
    return api


def test_a_changed_selector_brings_what_it_picks_and_takes_the_rest_away() -> None:
    api = filled()

    async def story(
        recorder: Recorder, reflector: SelectedReflector, synced: list[frozenset[str] | None]
    ) -> None:
        reflector.select(frozenset({"shop"}))
        await settled(lambda: synced == [frozenset({"shop"})])
        assert recorder.names() == {"a", "c"}

        reflector.select(frozenset({"bank"}))
        await settled(lambda: len(synced) == 2)
        assert recorder.names() == {"b", "c"}
        assert api.open_watches == 1

        reflector.select(None)
        await settled(lambda: synced[-1] is None)
        assert recorder.names() == {"a", "b", "c"}
        assert recorder.puts == 4  # what both selectors pick is told once
        assert reflector.version > 100

    follow(api, story)


def test_the_old_watch_goes_on_until_the_new_one_is_in_sync() -> None:
    api = filled()

    async def story(
        recorder: Recorder, reflector: SelectedReflector, synced: list[frozenset[str] | None]
    ) -> None:
        reflector.select(frozenset({"shop"}))
        await settled(lambda: len(synced) == 1)
        api.fail_next(ApiError(UNREACHABLE, "Unreachable", "refused"), "WATCH", times=3)
        reflector.select(frozenset({"shop", "bank"}))
        await settled(lambda: [method for method, _ in api.requests].count("WATCH") > 1)
        api.put(PATH, ruleset("d", "shop"))
        await settled(lambda: "d" in recorder.names())
        assert len(synced) == 1

        await settled(lambda: len(synced) == 2)
        assert recorder.names() == {"a", "b", "c", "d"}

    follow(api, story)
