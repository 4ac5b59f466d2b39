# SPDX-License-Identifier: Apache-2.0
"""Taking over leadership in a large cluster, while it goes on changing."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from support.fakeapi import FakeApi
from support.waiting import settled
from wildcard_operator.controller.parts import Parts, build
from wildcard_operator.controller.settings import Settings
from wildcard_operator.kube.api import ADDRESS_SETS, PODS, Json
from wildcard_operator.telemetry.operator_metrics import OperatorMetrics

COUNT = 2_000


def pod(number: int, app: str) -> Json:
    return {
        "metadata": {"namespace": "shop", "name": f"p{number}", "labels": {"app": app}},
        "spec": {"nodeName": "one"},
        "status": {"phase": "Running", "podIPs": [{"ip": address(number)}]},
    }


def address(number: int) -> str:
    return f"10.0.{number >> 8}.{number & 255}"


@dataclass
class Cluster:
    """An operator that has read its sources, and the labels of the pods by their number."""

    parts: Parts
    apps: dict[int, str] = field(default_factory=dict)

    def put(self, number: int, app: str) -> None:
        self.apps[number] = app
        self.parts.pipeline.take(PODS, ("shop", f"p{number}"), pod(number, app))

    def truth(self) -> list[tuple[str, str]]:
        """The addresses that are to be published."""
        return sorted((address(number), app) for number, app in self.apps.items())

    def remove(self, number: int) -> None:
        del self.apps[number]
        self.parts.pipeline.take(PODS, ("shop", f"p{number}"), None)


def cluster_of(count: int, api: FakeApi) -> Cluster:
    settings = Settings(namespace="operator", identity="me")
    cluster = Cluster(build(settings, OperatorMetrics(CollectorRegistry()), api, lambda: True))
    for number in range(count):
        cluster.put(number, f"app-{number % 50}")
    return cluster


def test_taking_over_leaves_others_their_turns() -> None:
    async def run() -> list[float]:
        taking_over = asyncio.create_task(cluster_of(20_000, FakeApi()).parts.pipeline.lead(()))
        spent = [time.thread_time()]
        while not taking_over.done():
            await asyncio.sleep(0)
            spent.append(time.thread_time())
        return spent

    gc.disable()  # collecting what other tests have left is none of its work
    try:
        spent = asyncio.run(run())
    finally:
        gc.enable()

    longest = max(after - before for before, after in itertools.pairwise(spent))
    assert longest < (spent[-1] - spent[0]) / 2


def test_what_changes_while_a_replica_takes_over_is_in_the_new_layout() -> None:
    api = FakeApi()

    async def run() -> None:
        cluster = cluster_of(COUNT, api)
        taking_over = asyncio.create_task(cluster.parts.pipeline.lead(()))
        for number in itertools.count():
            await asyncio.sleep(0)
            if taking_over.done():
                break
            cluster.put(number, "moved")
            cluster.remove(COUNT - 1 - number)
            cluster.put(COUNT + number, "new")
        assert set(cluster.apps.values()) >= {"moved", "new"}
        parts = cluster.parts
        parts.publisher.activate()
        working = [asyncio.create_task(one.run()) for one in (parts.publisher, parts.pipeline)]
        try:
            await settled(lambda: published(api) == cluster.truth(), 30)
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    asyncio.run(run())


def published(api: FakeApi) -> list[tuple[str, str]]:
    """The published addresses, each with the label of its group."""
    return sorted(
        (one, item["spec"]["labels"]["app"])
        for item in api.items(ADDRESS_SETS.path())
        for one in item["spec"]["addresses"]
    )
