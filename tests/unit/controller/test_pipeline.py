# SPDX-License-Identifier: Apache-2.0
"""From watched objects to published ones, against an API server in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from support.fakeapi import FakeApi
from support.waiting import settled
from wildcard_operator.compiler.cluster import ClusterCompiler
from wildcard_operator.controller.parts import Parts, build
from wildcard_operator.controller.pipeline import Pipeline
from wildcard_operator.controller.settings import Settings
from wildcard_operator.kube.api import ADDRESS_SETS, NETWORK_POLICIES, PODS, RULE_SETS, Json, list_all
from wildcard_operator.model.errors import ObjectRef, Refusal
from wildcard_operator.telemetry.operator_metrics import OperatorMetrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from wildcard_operator.model.objects import Namespace, Node, Pod


@dataclass
class Running:
    """An operator's parts at work, without an election: it leads."""

    api: FakeApi
    parts: Parts

    def addresses(self) -> dict[str, set[str]]:
        """The published addresses by the label `app` of their group."""
        found: dict[str, set[str]] = {}
        for item in self.api.items(ADDRESS_SETS.path()):
            spec = item["spec"]
            found.setdefault(spec["labels"].get("app", ""), set()).update(spec["addresses"])
        return found


def pod(name: str, ip: str, **labels: str) -> Json:
    return {
        "metadata": {
            "namespace": "shop",
            "name": name,
            "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"nodeName": "one"},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
    }


def policy(name: str, spec: Any) -> Json:
    return {"metadata": {"namespace": "shop", "name": name, "generation": 1}, "spec": spec}


def operate(api: FakeApi, story: Callable[[Running], Awaitable[None]]) -> None:
    async def run() -> None:
        settings = Settings(namespace="operator", identity="me")
        parts = build(settings, OperatorMetrics(CollectorRegistry()), api, lambda: True)
        tasks = [asyncio.create_task(reflector.run()) for reflector in parts.reflectors]
        tasks += [asyncio.create_task(parts.pipeline.run()), asyncio.create_task(parts.publisher.run())]
        try:
            await settled(lambda: all(parts.synced().values()))
            await parts.pipeline.lead(await list_all(api, ADDRESS_SETS, "operator"))
            parts.publisher.activate()
            await asyncio.wait_for(story(Running(api, parts)), 60)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())


def test_a_relabelled_pod_is_in_its_new_group_before_it_leaves_the_old_one() -> None:
    api = FakeApi()
    api.put(PODS.path(), pod("a", "10.0.0.1", app="old"))

    async def story(running: Running) -> None:
        await settled(lambda: running.addresses() == {"old": {"10.0.0.1"}})
        api.put(PODS.path(), pod("a", "10.0.0.1", app="new"))
        await settled(lambda: "new" in running.addresses())
        assert running.addresses() == {"old": {"10.0.0.1"}, "new": {"10.0.0.1"}}
        await settled(lambda: running.addresses() == {"new": {"10.0.0.1"}})

    operate(api, story)

    assert len(api.writes()) == 3


def test_each_pod_that_starts_or_ends_is_one_write() -> None:
    api = FakeApi()

    async def story(running: Running) -> None:
        for number in range(3):
            api.put(PODS.path(), pod(f"p{number}", f"10.0.0.{number}", app="web"))
            await settled(lambda number=number: len(running.addresses().get("web", ())) == number + 1)
        assert len(api.writes()) == 3
        api.delete(PODS.path(), "shop", "p1")
        await settled(lambda: running.addresses() == {"web": {"10.0.0.0", "10.0.0.2"}})

    operate(api, story)

    assert len(api.writes()) == 4


def test_a_new_leader_keeps_the_slices_that_it_finds() -> None:
    api = FakeApi()
    for number in range(100):
        api.put(PODS.path(), pod(f"p{number:03}", f"10.0.1.{number}", app="web"))

    async def publish(running: Running) -> None:
        await settled(lambda: len(running.addresses().get("web", ())) == 100)

    operate(api, publish)
    # The slices are filled in the order of arrival; another process would have seen another.
    before, written = api.items(ADDRESS_SETS.path()), len(api.writes())
    for number in (7, 3):
        api.put(PODS.path(), pod(f"p{number:03}", f"10.0.1.{number}", app="web"))

    async def adopt(running: Running) -> None:
        await settled(lambda: running.parts.pending() == 0)

    operate(api, adopt)

    assert len(api.writes()) == written
    assert api.items(ADDRESS_SETS.path()) == before


def test_an_object_that_cannot_be_read_harms_no_other() -> None:
    api = FakeApi()
    api.put(NETWORK_POLICIES.path(), policy("bad", {"podSelector": {}, "ingress": [{"from": [{}]}]}))
    api.put(NETWORK_POLICIES.path(), policy("good", {"podSelector": {}}))
    api.put(NETWORK_POLICIES.path(), policy("strange", "not a spec at all"))
    api.put(PODS.path(), pod("a", "10.0.0.07", app="bad"))
    api.put(PODS.path(), pod("b", "10.0.0.8", app="good"))

    async def story(running: Running) -> None:
        await settled(lambda: running.addresses() == {"good": {"10.0.0.8"}} and not running.parts.pending())
        sources = {item["spec"]["source"]["name"] for item in api.items(RULE_SETS.path())}
        assert "good" in sources
        refused = list(running.parts.refused())
        assert {kind for kind, _ in refused} == {"NetworkPolicy", "Pod"}
        assert len(refused) == 3

    operate(api, story)


class Brittle(ClusterCompiler):
    """Has a defect that shows in one policy."""

    def put(self, raw: Any) -> Pod | Namespace | Node | None:
        if raw["metadata"]["name"] == "fatal":
            raise ZeroDivisionError
        return super().put(raw)


def test_a_policy_over_which_the_operator_fails_isolates_and_harms_no_other() -> None:
    api, compiler = FakeApi(), Brittle()
    parts = build(Settings("operator", "me"), OperatorMetrics(CollectorRegistry()), api, lambda: True)
    pipeline = Pipeline(Settings("operator", "me"), compiler, parts.world, parts.publisher)
    for name in ("fatal", "good"):
        allow = {"podSelector": {"matchLabels": {"app": name}}, "ingress": [{}]}
        pipeline.take(NETWORK_POLICIES, ("shop", name), policy(name, allow))

    found = {ruleset.source.name: ruleset for ruleset in compiler.changes().rulesets.values() if ruleset}
    assert found["good"].rules
    assert not found["fatal"].rules
    assert found["fatal"].isolates == found["good"].isolates
    assert compiler.refusals[ObjectRef("NetworkPolicy", "shop", "fatal")].reason is Refusal.DEFECT
