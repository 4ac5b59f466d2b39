# SPDX-License-Identifier: Apache-2.0
"""The published objects become equal to the wanted ones, with no write too many."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from support.fakeapi import FakeApi
from support.waiting import settled
from wildcard_operator.kube.api import RULE_SETS, ApiError, Json, Resource
from wildcard_operator.kube.publish import NAMESPACE_LABEL, Publisher, label_selector
from wildcard_operator.kube.reflector import Reflector, Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PATH = RULE_SETS.path()


@dataclass(frozen=True)
class Spec:
    """A wanted object's content."""

    priority: int

    def to_dict(self) -> Json:
        return {"formatVersion": 1, "priority": self.priority}


@dataclass
class Observed:
    """Counts what the publisher reports."""

    writes: list[str] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)

    def written(self, resource: Resource, verb: str, waited: float, took: float) -> None:
        self.writes.append(verb)

    def failed(self, resource: Resource, verb: str, error: ApiError) -> None:
        self.errors.append(error.status)


@dataclass
class Bench:
    """A publisher of the namespace `operator`, with the watch that feeds it."""

    api: FakeApi
    publisher: Publisher
    observed: Observed
    leads: bool = True

    def specs(self) -> dict[str, int]:
        return {item["metadata"]["name"]: item["spec"]["priority"] for item in self.api.items(PATH)}


def published(name: str, priority: int) -> Json:
    metadata = {"namespace": "operator", "name": name, "labels": {NAMESPACE_LABEL: "shop"}}
    return {"metadata": metadata, "spec": Spec(priority).to_dict()}


def publish(api: FakeApi, story: Callable[[Bench], Awaitable[None]]) -> Observed:
    async def run() -> Observed:
        observed = Observed()
        publisher = Publisher(api, "operator", qps=1000, may_write=lambda: bench.leads, observer=observed)
        bench = Bench(api, publisher, observed)
        reflector = Reflector(api, RULE_SETS, Store(publisher.sink(RULE_SETS)), namespace="operator")
        tasks = [asyncio.create_task(reflector.run()), asyncio.create_task(publisher.run())]
        try:
            await reflector.synced.wait()
            await asyncio.wait_for(story(bench), 60)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return observed

    return asyncio.run(run())


def test_what_is_wanted_is_written_and_what_is_not_is_deleted() -> None:
    api = FakeApi()
    api.put(PATH, published("left-over", 1))

    async def story(bench: Bench) -> None:
        bench.publisher.want(RULE_SETS, "a", Spec(1), "shop")
        bench.publisher.activate()
        await settled(lambda: bench.specs() == {"a": 1})
        bench.publisher.want(RULE_SETS, "a", Spec(2), "shop")
        await settled(lambda: bench.specs() == {"a": 2})
        bench.publisher.drop(RULE_SETS, "a")
        await settled(lambda: bench.specs() == {})
        await settled(lambda: bench.publisher.pending == 0)

    observed = publish(api, story)

    assert sorted(observed.writes) == ["create", "delete", "delete", "update"]
    assert observed.errors == []


def test_what_exists_is_adopted_without_a_write() -> None:
    api = FakeApi()
    for name in ("a", "b"):
        api.put(PATH, published(name, 7))

    async def story(bench: Bench) -> None:
        for name in ("a", "b"):
            bench.publisher.want(RULE_SETS, name, Spec(7), "shop")
        bench.publisher.activate()
        bench.publisher.want(RULE_SETS, "c", Spec(7), "shop")
        await settled(lambda: len(bench.specs()) == 3)

    publish(api, story)

    assert len(api.writes()) == 1


def test_nothing_is_written_before_the_publisher_is_active_or_by_one_that_does_not_lead() -> None:
    api = FakeApi()
    api.put(PATH, published("left-over", 1))

    async def story(bench: Bench) -> None:
        bench.leads = False
        bench.publisher.want(RULE_SETS, "a", Spec(1), "shop")
        bench.publisher.activate()
        await asyncio.sleep(0.1)

    publish(api, story)

    assert api.writes() == []


def test_what_others_change_is_set_right() -> None:
    api = FakeApi()

    async def story(bench: Bench) -> None:
        bench.publisher.want(RULE_SETS, "a", Spec(1), "shop")
        bench.publisher.activate()
        await settled(lambda: bench.specs() == {"a": 1})
        tampered = published("a", 99)
        tampered["spec"]["foreign"] = "a field of somebody else"
        api.put(PATH, tampered)
        await settled(lambda: api.items(PATH)[0]["spec"] == Spec(1).to_dict())
        api.delete(PATH, "operator", "a")
        await settled(lambda: bench.specs() == {"a": 1})

    publish(api, story)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_writer_that_slept_overwrites_nothing_newer(method: str) -> None:
    api = FakeApi()

    async def story(bench: Bench) -> None:
        def overtake() -> None:
            api.put(PATH, published("a", 3))
            bench.leads = False

        if method != "POST":
            api.put(PATH, published("a", 1))
            bench.publisher.want(RULE_SETS, "a", Spec(1), "shop")
            await settled(lambda: bench.publisher.version(RULE_SETS, "a") is not None)
        api.before_next(method, overtake)
        bench.publisher.activate()
        if method == "DELETE":
            bench.publisher.drop(RULE_SETS, "a")
        else:
            bench.publisher.want(RULE_SETS, "a", Spec(2), "shop")
        await settled(lambda: bool(bench.observed.errors))
        assert bench.specs() == {"a": 3}

    observed = publish(api, story)

    assert observed.errors == [409]
    assert observed.writes == []


class AlteringApi(FakeApi):
    """A server whose admission adds to whatever is written; `moments` is when that was."""

    def __init__(self) -> None:
        super().__init__()
        self.moments: list[float] = []

    async def request(self, method: str, path: str, *, body: Json | None = None, **options: Any) -> Json:
        if method in {"POST", "PUT"} and body is not None:
            self.moments.append(time.monotonic())
            body = {**body, "spec": {**body["spec"], "altered": True}}
        return await super().request(method, path, body=body, **options)


def test_what_the_server_alters_is_written_less_and_less_often() -> None:
    api = AlteringApi()

    async def story(bench: Bench) -> None:
        bench.publisher.want(RULE_SETS, "a", Spec(1), "shop")
        bench.publisher.activate()
        await settled(lambda: len(api.moments) == 4)

    publish(api, story)

    assert api.moments[3] - api.moments[0] > 0.7


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_a_server_in_trouble_is_left_alone_for_a_while(status: int) -> None:
    api = FakeApi()

    async def story(bench: Bench) -> None:
        for number in range(100):
            bench.publisher.want(RULE_SETS, f"a{number}", Spec(1), "shop")
        api.fail_next(ApiError(status, "", "trouble"), "POST", times=16)
        bench.publisher.activate()
        await settled(lambda: len(bench.specs()) == 100)

    observed = publish(api, story)

    assert observed.errors == [status] * 16
    assert len(observed.writes) == 100


def test_removals_wait_and_additions_do_not() -> None:
    async def story(bench: Bench) -> None:
        bench.publisher.want(RULE_SETS, "old", Spec(1), "shop")
        bench.publisher.activate()
        await settled(lambda: set(bench.specs()) == {"old"})
        bench.publisher.drop(RULE_SETS, "old", delay=0.1)
        bench.publisher.want(RULE_SETS, "new", Spec(1), "shop", delay=0.02)
        await settled(lambda: set(bench.specs()) == {"new"})

    observed = publish(FakeApi(), story)

    assert observed.writes == ["create", "create", "delete"]


def test_the_selector_names_the_namespaces_and_the_whole_cluster() -> None:
    assert label_selector({"shop", "bank"}) == "wildcard-operator.io/namespace in (,bank,shop)"
