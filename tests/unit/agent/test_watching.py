# SPDX-License-Identifier: Apache-2.0
"""An agent watches what its node needs and no more, and isolation never comes too late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from support.fakeapi import FakeApi
from support.waiting import settled
from wildcard_operator.agent.watching import MANY_NAMESPACES, Watches
from wildcard_operator.compiler import events
from wildcard_operator.compiler.network_policies import network_policy
from wildcard_operator.kube.api import ADDRESS_SETS, NAMESPACES, NODES, PODS, RULE_SETS, Json
from wildcard_operator.kube.publish import NAMESPACE_LABEL
from wildcard_operator.model.rulesets import ruleset_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def namespace(name: str, **labels: str) -> Json:
    return {"metadata": {"name": name, "labels": labels}}


def pod(namespace: str, name: str, ip: str = "10.0.0.1") -> Json:
    status = {"phase": "Running", "podIPs": [{"ip": ip}]}
    return {
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"nodeName": "here"},
        "status": status,
    }


def published(namespace: str, name: str, spec: Json) -> Json:
    return {
        "metadata": {"namespace": "operator", "name": name, "labels": {NAMESPACE_LABEL: namespace}},
        "spec": spec,
    }


def ruleset(namespace: str, name: str, peer: dict[str, Any]) -> Json:
    raw = {
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"podSelector": {}, "ingress": [{"from": [peer]}]},
    }
    parsed = network_policy(raw)
    return published(namespace, ruleset_name(parsed.source), parsed.to_dict())


def address_set(namespace: str, name: str) -> Json:
    spec = {"formatVersion": 1, "namespace": namespace, "labels": {}, "ports": [], "addresses": ["10.0.9.9"]}
    return published(namespace, name, spec)


def filled() -> FakeApi:
    """Three namespaces: `shop` has a pod here, lets `bank` in, and has nothing to do with `far`."""
    api = FakeApi()
    api.put(NODES.path(), {"metadata": {"name": "here"}})
    for name in ("shop", "bank", "far"):
        api.put(NAMESPACES.path(), namespace(name, team=name))
        api.put(ADDRESS_SETS.path(), address_set(name, f"{name}-0"))
        api.put(
            RULE_SETS.path(), ruleset(name, "p", {"namespaceSelector": {"matchLabels": {"team": "bank"}}})
        )
    api.put(PODS.path(), pod("shop", "web"))
    return api


def watch(api: FakeApi, story: Callable[[list[events.Event], Watches], Awaitable[None]]) -> None:
    async def run() -> None:
        seen: list[events.Event] = []
        watches = Watches(
            api, "here", "operator", seen.append, lambda _uid: None, lambda _resource, _error: None
        )
        task = asyncio.create_task(watches.run())
        try:
            await asyncio.wait_for(story(seen, watches), 60)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def names(seen: list[events.Event], kind: type[events.AddressSetSet] | type[events.RuleSetSet]) -> set[str]:
    return {event.name for event in seen if isinstance(event, kind)}


def policies(seen: list[events.Event]) -> set[str]:
    return {event.ruleset.source.namespace for event in seen if isinstance(event, events.RuleSetSet)}


def test_only_what_concerns_the_nodes_pods_is_watched() -> None:
    api = filled()

    async def story(seen: list[events.Event], watches: Watches) -> None:
        await settled(lambda: watches.synced)
        assert policies(seen) == {"shop"}
        assert names(seen, events.AddressSetSet) == {"bank-0"}
        assert api.open_watches == 5
        assert watches.revision > 100

    watch(api, story)


def test_a_namespace_counts_as_in_sync_only_after_its_rule_sets() -> None:
    api = filled()

    async def story(seen: list[events.Event], watches: Watches) -> None:
        await settled(lambda: watches.synced)
        assert seen[0] == events.Synced(frozenset())
        api.put(PODS.path(), pod("far", "late", "10.0.0.2"))
        await settled(
            lambda: any(isinstance(e, events.Synced) and "far" in (e.namespaces or ()) for e in seen)
        )
        pod_at = next(
            i for i, e in enumerate(seen) if isinstance(e, events.PodSet) and e.pod.namespace == "far"
        )
        synced_at = next(
            i for i, e in enumerate(seen) if isinstance(e, events.Synced) and "far" in (e.namespaces or ())
        )
        rules_at = next(
            i
            for i, e in enumerate(seen)
            if isinstance(e, events.RuleSetSet) and e.ruleset.source.namespace == "far"
        )
        assert pod_at < rules_at < synced_at

    watch(api, story)


def test_a_relabelled_namespace_brings_its_addresses() -> None:
    api = filled()

    async def story(seen: list[events.Event], watches: Watches) -> None:
        await settled(lambda: watches.synced)
        api.put(NAMESPACES.path(), namespace("far", team="bank"))
        await settled(lambda: names(seen, events.AddressSetSet) == {"bank-0", "far-0"})

    watch(api, story)


def test_where_peers_are_everywhere_everything_is_asked_for() -> None:
    api = filled()
    for number in range(MANY_NAMESPACES):
        api.put(NAMESPACES.path(), namespace(f"n{number}"))
    api.put(RULE_SETS.path(), ruleset("shop", "everybody", {"namespaceSelector": {}}))

    async def story(seen: list[events.Event], watches: Watches) -> None:
        await settled(lambda: names(seen, events.AddressSetSet) == {"bank-0", "far-0", "shop-0"})
        assert policies(seen) == {"shop"}

    watch(api, story)


def test_what_cannot_be_read_is_a_problem_and_keeps_nothing_else_out() -> None:
    api = filled()
    api.put(PODS.path(), pod("shop", "odd", "10.0.0.07"))
    api.put(RULE_SETS.path(), published("shop", "future", {"formatVersion": 99}))
    api.put(ADDRESS_SETS.path(), published("bank", "odd-0", {"formatVersion": 1}))

    async def story(seen: list[events.Event], watches: Watches) -> None:
        await settled(lambda: watches.synced)
        assert {(one.kind, one.name) for one in watches.problems.values()} == {
            ("Pod", "shop/odd"),
            ("AddressSet", "operator/odd-0"),
        }
        (future,) = (e.ruleset for e in seen if isinstance(e, events.RuleSetSet) and e.name == "future")
        assert len(future.isolates) == 2
        assert any(isinstance(e, events.PodSet) and e.pod.name == "web" for e in seen)

    watch(api, story)
