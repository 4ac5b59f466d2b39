# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to operator and API server: what is published ends up right, with no write too many."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from support.kubenodes import pod_object
from support.manifests import NAMESPACE, install_crds, install_rbac, namespace, wait_until_served
from support.operators import OperatorProcess
from support.restclient import RestClient
from support.waiting import wait_until
from wildcard_operator.kube.api import ADDRESS_SETS, NETWORK_POLICIES, PODS, RULE_SETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.controlplane import ControlPlane

POLICIES = 300


class Api:
    """What these tests do to the API server and read from it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.client = RestClient(plane)

    def create_policy(self, number: int) -> None:
        self.client.create(policy(number))

    def delete_policy(self, number: int) -> None:
        self.client.delete(NETWORK_POLICIES, "many", f"p{number}")

    def published(self) -> set[str]:
        """The policies that have a RuleSet."""
        items = self.client.request("GET", RULE_SETS.path(NAMESPACE))["items"]
        return {item["spec"]["source"]["name"] for item in items}

    def versions(self) -> dict[str, str]:
        """The versions of everything that is published: equal ones mean that nothing was written."""
        return {
            item["metadata"]["name"]: item["metadata"]["resourceVersion"]
            for resource in (RULE_SETS, ADDRESS_SETS)
            for item in self.client.request("GET", resource.path(NAMESPACE))["items"]
        }


def policy(number: int) -> dict[str, Any]:
    return {
        "kind": "NetworkPolicy",
        "metadata": {"namespace": "many", "name": f"p{number}"},
        "spec": {
            "podSelector": {"matchLabels": {"app": f"a{number}"}},
            "ingress": [{"ports": [{"port": 80}]}],
        },
    }


def names(numbers: range) -> set[str]:
    return {f"p{number}" for number in numbers}


@pytest.fixture
def api(own_control_plane: ControlPlane) -> Iterator[Api]:
    """A control plane with 300 policies and 50 pods, and nobody who has read them yet."""
    install_crds(own_control_plane)
    install_rbac(own_control_plane)
    own_control_plane.apply(namespace("many"))
    wait_until(
        lambda: own_control_plane.exists("serviceaccount", "default", "-n", "many"), 60, "it has an account"
    )
    built = Api(own_control_plane)
    built.client.create({"kind": "Node", "metadata": {"name": "node-1"}})  # or its pods are collected
    for number in range(POLICIES):
        built.create_policy(number)
    for number in range(50):
        pod = pod_object("many", f"pod{number}", "node-1", {"app": f"a{number % 5}"})
        address = f"10.244.1.{number + 10}"
        built.client.create(
            {**pod, "status": {"phase": "Running", "podIPs": [{"ip": address}], "podIP": address}}
        )
    yield built
    built.client.close()


def test_an_operator_that_is_killed_while_it_publishes_goes_on_where_it_was(api: Api) -> None:
    with OperatorProcess(api.plane, "slow", "--publish-qps", "20") as slow:
        wait_until(lambda: 50 < len(api.published()) < POLICIES, 60, "it is in the middle", every=0.01)
        slow.stop(signal.SIGKILL)
        half = api.versions()
        assert len(half) < POLICIES
    with OperatorProcess(api.plane, "next") as following:
        following.wait_until_settled()

        assert api.published() == names(range(POLICIES))
        assert {name: api.versions()[name] for name in half} == half


def test_a_restart_with_nothing_changed_writes_nothing(api: Api) -> None:
    with OperatorProcess(api.plane, "first") as first:
        first.wait_until_settled()
        first.stop(signal.SIGTERM)
    before = api.versions()
    with OperatorProcess(api.plane, "second") as second:
        second.wait_until_settled()

        assert second.writes() == 0
        assert api.versions() == before


def test_an_operator_that_is_killed_in_its_first_list_deletes_nothing(api: Api) -> None:
    with OperatorProcess(api.plane, "first") as first:
        first.wait_until_settled()
        first.stop(signal.SIGTERM)
    before = api.versions()
    for attempt in range(6):
        with OperatorProcess(api.plane, f"killed-{attempt}") as killed:
            wait_until(lambda: killed.samples() != {}, 60, "it has begun", every=0.005)
            moment = time.monotonic() + 0.05 * attempt
            wait_until(lambda until=moment: time.monotonic() > until, 1, "a moment has passed")

    assert api.versions() == before


def test_of_two_replicas_one_writes_and_the_other_takes_over_without_a_write(api: Api) -> None:
    with OperatorProcess(api.plane, "one") as one:
        one.wait_until_settled()
        with OperatorProcess(api.plane, "two") as two:
            wait_until(two.ready, 60, "the second is ready")
            assert not two.leads()
            before = api.versions()
            one.stop(signal.SIGKILL)
            two.wait_until_settled()

            assert two.writes() == 0
            assert api.versions() == before
            api.delete_policy(0)
            wait_until(lambda: api.published() == names(range(1, POLICIES)), 30, "the second goes on")


@pytest.mark.parametrize("seconds", [20, pytest.param(60, marks=pytest.mark.long)])
def test_a_leader_that_was_frozen_writes_nothing_stale(api: Api, seconds: int) -> None:
    with OperatorProcess(api.plane, "frozen", "--publish-qps", "5") as frozen:
        wait_until(lambda: len(api.published()) > 20, 60, "it is in the middle of publishing", every=0.01)
        with OperatorProcess(api.plane, "other") as other:
            wait_until(other.ready, 60, "the other is ready")
            frozen.send(signal.SIGSTOP)
            assert len(api.published()) < POLICIES, "it is still in the middle"
            since = time.monotonic()
            other.wait_until_settled()
            for number in range(100):
                api.delete_policy(number)
            wait_until(lambda: api.published() == names(range(100, POLICIES)), 60, "the other deleted them")
            wait_until(lambda: time.monotonic() - since > seconds, seconds + 1, "it was frozen for long")
            before = api.versions()
            frozen.send(signal.SIGCONT)
            wait_until(frozen.ready, 60, "it is back")
            wait_until(
                lambda: frozen.value("wildcard_operator_source_objects", resource="networkpolicies") == 200,
                60,
                "it has read what it missed",
            )

            assert not frozen.leads()
            assert api.versions() == before


def test_a_policy_that_goes_across_a_410_is_gone_within_five_seconds(api: Api) -> None:
    with OperatorProcess(api.plane, "operator") as operator:
        operator.wait_until_settled()
        operator.send(signal.SIGSTOP)
        api.client.close()
        api.plane.stop_apiserver()
        api.plane.delete_behind_api_server("networkpolicies/many/p7")
        api.plane.compact()
        api.plane.start_apiserver()
        wait_until_served(api.plane)
        operator.send(signal.SIGCONT)

        wait_until(lambda: "p7" not in api.published(), 5, "its RuleSet is gone")
        assert api.published() == names(range(POLICIES)) - {"p7"}
        assert operator.value("wildcard_operator_source_errors_total", status="410") > 0


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
def test_the_operator_outlives_the_api_server(api: Api, seconds: int) -> None:
    with OperatorProcess(api.plane, "operator") as operator:
        operator.wait_until_settled()
        before = api.versions()
        api.client.close()
        api.plane.stop_apiserver()
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since > seconds, seconds + 1, "it was away for long")
        api.plane.start_apiserver()
        wait_until_served(api.plane)
        api.create_policy(1000)
        api.client.delete(PODS, "many", "pod0")

        # After a long outage each of its watches tries again every 15 seconds or so.
        wait_until(lambda: "p1000" in api.published(), 60, "it goes on")
        wait_until(lambda: len(changed(before, api.versions())) == 2, 60, "the pod's address is gone too")
        operator.wait_until_settled()
        assert len(changed(before, api.versions())) == 2
        assert operator.running
        assert operator.healthy()


def changed(before: dict[str, str], now: dict[str, str]) -> set[str]:
    """What was written in between."""
    return {name for name, version in now.items() if before.get(name) != version}
