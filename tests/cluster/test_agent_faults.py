# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to agents, API server and connections: what is in force stays so, and becomes right
afterwards.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from support.connections import Attempt, Servers, connects, established
from support.kubenodes import KubeCluster
from support.manifests import NAMESPACE, namespace, wait_until_served
from support.waiting import wait_until, wait_until_still
from wildcard_operator.controller.pipeline import REMOVAL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.controlplane import ControlPlane
    from support.operators import OperatorProcess

PORT = 80
WEB = {"app": "web"}


def policy(name: str, *allowed: str) -> dict[str, Any]:
    """The pods `app: web` of `shop` may be reached by the pods with these labels `role` alone."""
    peers = [{"podSelector": {"matchLabels": {"role": role}}} for role in allowed]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": "shop", "name": name},
        "spec": {
            "podSelector": {"matchLabels": WEB},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": peers}] if peers else [],
        },
    }


class Shop:
    """A server on the first node, a friend and a foe on the second."""

    def __init__(self, cluster: KubeCluster, servers: Servers) -> None:
        self.plane, self.cluster = cluster.plane, cluster
        self.plane.apply(namespace("shop"))
        self.web = cluster.start_pod("shop", "web", "node-1", WEB)
        self.friend = cluster.start_pod("shop", "friend", "node-2", {"role": "friend"})
        self.foe = cluster.start_pod("shop", "foe", "node-2", {"role": "foe"})
        servers.listen(self.web.netns, PORT)

    def reached(self) -> dict[str, bool]:
        """Who reaches the server."""
        address = self.web.address(4)
        answers = established([Attempt(pod.netns, address, PORT) for pod in (self.friend, self.foe)])
        return dict(zip(("friend", "foe"), answers, strict=True))

    def wait_for(self, *, friend: bool, foe: bool, seconds: float = 30) -> None:
        """Until exactly these reach the server."""
        expected = {"friend": friend, "foe": foe}
        wait_until(lambda: self.reached() == expected, seconds, lambda: f"{expected}, not {self.reached()}")

    def holds(self, seconds: float, *, friend: bool, foe: bool) -> None:
        """For so long exactly these reach the server, without an exception."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.reached() == {"friend": friend, "foe": foe}

    def delete_policy(self, name: str) -> None:
        """Delete a policy."""
        self.plane.kubectl("delete", "networkpolicy", "-n", "shop", name, "--ignore-not-found")


@pytest.fixture(scope="module")
def cluster(installed: ControlPlane, operator: OperatorProcess) -> Iterator[Shop]:
    with KubeCluster(installed) as cluster, Servers() as servers:
        for name in ("node-1", "node-2"):
            cluster.add_node(name)
        yield Shop(cluster, servers)


@pytest.fixture
def shop(cluster: Shop) -> Iterator[Shop]:
    """The shop, with a policy that lets the friend alone in."""
    cluster.plane.apply(policy("friends", "friend"))
    cluster.wait_for(friend=True, foe=False)
    yield cluster
    for name in ("friends", "deny"):
        cluster.delete_policy(name)
    cluster.wait_for(friend=True, foe=True)


def test_a_killed_agent_leaves_everything_in_force_and_catches_up(shop: Shop) -> None:
    node = shop.cluster.nodes["node-1"]
    node.stop(signal.SIGKILL)
    shop.holds(1, friend=True, foe=False)
    shop.plane.apply(policy("friends"))
    shop.holds(1, friend=True, foe=False)

    node.start()

    shop.wait_for(friend=False, foe=False)


def test_all_agents_restarted_at_once_never_let_the_foe_in(shop: Shop) -> None:
    for node in shop.cluster.nodes.values():
        node.stop(signal.SIGTERM)
    for node in shop.cluster.nodes.values():
        node.start()

    shop.holds(4, friend=True, foe=False)
    for node in shop.cluster.nodes.values():
        wait_until(lambda node=node: node.value("wildcard_commits_total") > 0, 60, "it commits")
    shop.holds(0.5, friend=True, foe=False)


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.long)])
def test_an_agent_without_its_api_server_keeps_enforcing_and_converges(shop: Shop, seconds: int) -> None:
    node = shop.cluster.nodes["node-1"]
    node.relay.cut()
    shop.plane.apply(policy("friends"))

    shop.holds(seconds, friend=True, foe=False)
    node.relay.restore()

    shop.wait_for(friend=False, foe=False)


def test_a_policy_that_goes_across_a_410_is_gone_within_five_seconds(shop: Shop) -> None:
    plane, node = shop.plane, shop.cluster.nodes["node-1"]
    node.relay.cut()
    shop.delete_policy("friends")
    wait_until(lambda: not plane.get("rulesets", "-n", NAMESPACE)["items"], 30, "its RuleSet is gone")
    plane.stop_apiserver()
    plane.compact()
    plane.start_apiserver()
    wait_until_served(plane)
    shop.holds(0.5, friend=True, foe=False)
    node.relay.restore()

    shop.wait_for(friend=True, foe=True, seconds=5 + 15)
    assert '"status": 410' in node.log.read_text()


def test_a_pod_that_was_deleted_by_force_stays_isolated_while_it_runs(shop: Shop) -> None:
    shop.plane.kubectl("delete", "pod", "-n", "shop", "web", "--force", "--grace-period=0")

    shop.holds(3, friend=True, foe=False)
    shop.plane.apply(policy("friends"))
    shop.wait_for(friend=False, foe=False)

    shop.cluster.report_pod("shop", "web", "node-1", WEB)
    shop.wait_for(friend=False, foe=False)


def test_a_new_pod_is_isolated_from_its_first_packet(shop: Shop) -> None:
    """Its address is not in the API yet: that is the moment in which policies are most often late."""
    node = shop.cluster.nodes["node-1"]

    def commits() -> float:
        return node.value("wildcard_commits_total")

    before = wait_until_still(commits, 2 * REMOVAL_SECONDS, 60, "the agent commits nothing more")
    shop.cluster.create_pod("shop", "late", "node-1", WEB)
    # A kubelet needs much longer than an agent for what it does between the two.
    wait_until(lambda: commits() > before, 30, "the agent knows of the pod", every=0.005)
    late = shop.cluster.run_pod("shop", "late", "node-1")
    with Servers() as servers:
        servers.listen(late.netns, PORT)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert not connects(shop.foe.netns, late.address(4), PORT)
        shop.cluster.set_pod_status("shop", "late", late.addresses)
        wait_until(lambda: connects(shop.friend.netns, late.address(4), PORT), 30, "the friend is let in")
        assert not connects(shop.foe.netns, late.address(4), PORT)
    shop.cluster.end_pod("shop", "late")
