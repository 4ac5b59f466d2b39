# SPDX-License-Identifier: Apache-2.0
"""A sink has what the API server has, whatever happens to the requests in between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from support.fakeapi import FakeApi
from support.recorder import Recorder
from support.waiting import settled
from wildcard_operator.kube.api import GONE, PODS, UNREACHABLE, ApiError, Json
from wildcard_operator.kube.reflector import Reflector, Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


PATH = PODS.path()


def pod(name: str, **labels: str) -> Json:
    return {"metadata": {"namespace": "default", "name": name, "labels": labels}}


def follow(api: FakeApi, story: Callable[[Recorder, Reflector], Awaitable[None]]) -> None:
    """Run a reflector of all pods beside the story."""

    async def run() -> None:
        recorder = Recorder()
        reflector = Reflector(api, PODS, Store(recorder))
        task = asyncio.create_task(reflector.run())
        try:
            await asyncio.wait_for(story(recorder, reflector), 10)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert api.open_watches == 0

    asyncio.run(run())


@pytest.fixture(params=[True, False], ids=["streamed", "paged"])
def api(request: pytest.FixtureRequest) -> FakeApi:
    return FakeApi(streams_lists=request.param, page_size=2)


def test_what_is_there_is_listed_and_changes_follow(api: FakeApi) -> None:
    for name in ("a", "b", "c", "d", "e"):
        api.put(PATH, pod(name))

    async def story(recorder: Recorder, reflector: Reflector) -> None:
        await reflector.synced.wait()
        assert recorder.names() == {"a", "b", "c", "d", "e"}

        api.put(PATH, pod("f"))
        api.put(PATH, pod("a", app="web"))
        api.delete(PATH, "default", "b")
        await settled(lambda: recorder.names() == {"a", "c", "d", "e", "f"})
        assert recorder.items["default", "a"]["metadata"]["labels"] == {"app": "web"}

    follow(api, story)


def test_a_deletion_across_a_410_is_seen_by_the_next_list(api: FakeApi) -> None:
    for name in ("a", "b"):
        api.put(PATH, pod(name))

    async def story(recorder: Recorder, reflector: Reflector) -> None:
        await reflector.synced.wait()
        await settled(lambda: api.open_watches == 1)
        api.fail_next(ApiError(UNREACHABLE, "Unreachable", "refused"), "WATCH")
        api.break_watches()
        api.delete(PATH, "default", "a")
        api.compact(PATH)
        await settled(lambda: recorder.names() == {"b"})
        assert recorder.puts == 2  # what didn't change isn't told again

    follow(api, story)


def test_a_list_that_breaks_off_is_begun_again(api: FakeApi) -> None:
    for name in ("a", "b", "c"):
        api.put(PATH, pod(name))
    api.fail_next(ApiError(500, "InternalError", "etcd leader changed"), "WATCH")
    api.fail_next(ApiError(GONE, "Expired", "the continue token is too old"), "GET")

    async def story(recorder: Recorder, reflector: Reflector) -> None:
        await reflector.synced.wait()
        assert recorder.names() == {"a", "b", "c"}

    follow(api, story)


def test_trouble_is_reported_and_waited_out() -> None:
    api = FakeApi()
    api.put(PATH, pod("a"))
    api.fail_next(ApiError(429, "TooManyRequests", "slow down", retry_after=0.2), "WATCH", times=2)
    errors: list[ApiError] = []

    async def story() -> float:
        reflector = Reflector(api, PODS, Store(Recorder()), on_error=lambda _, error: errors.append(error))
        started = asyncio.get_running_loop().time()
        task = asyncio.create_task(reflector.run())
        await reflector.synced.wait()
        task.cancel()
        return asyncio.get_running_loop().time() - started

    took = asyncio.run(story())

    assert [error.status for error in errors] == [429, 429]
    assert took >= 0.4


def test_the_newer_of_two_states_wins_where_two_streams_share_a_store() -> None:
    recorder = Recorder()
    store = Store(recorder)
    old, new = pod("a", app="old"), pod("a", app="new")
    old["metadata"]["resourceVersion"], new["metadata"]["resourceVersion"] = "9", "10"

    store.put(new)
    store.put(old)
    store.remove(("default", "a"), 9)

    assert recorder.items == {("default", "a"): new}


def test_an_old_state_that_comes_after_the_deletion_lasts_until_its_own_stream_deletes_it() -> None:
    recorder = Recorder()
    store = Store(recorder)
    old = pod("a", app="old")
    old["metadata"]["resourceVersion"] = "9"
    store.put(old)
    store.remove(("default", "a"), 10)

    store.put(old)
    assert recorder.items == {("default", "a"): old}

    store.remove(("default", "a"), 10)
    assert recorder.items == {}
