# SPDX-License-Identifier: Apache-2.0
"""Objects that got in by another way than admission: a reason is told, and everything else stays in force."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.connections import Servers, connects
from support.kubenodes import KubeCluster
from support.manifests import GOOD_FILTER_SPEC, NAMESPACE, namespace, wildcard_filter
from support.restclient import RestClient
from support.waiting import wait_until
from wildcard_operator.kube.publish import NAMESPACE_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.controlplane import ControlPlane
    from support.operators import OperatorProcess

PORT = 80


@pytest.fixture(scope="module")
def cluster(installed: ControlPlane, operator: OperatorProcess) -> Iterator[KubeCluster]:
    with KubeCluster(installed) as built, Servers() as servers:
        built.add_node("node-1")
        for name in ("sound", "odd"):
            installed.apply(namespace(name))
            built.start_pod(name, "web", "node-1", {"app": "web"})
            built.start_pod(name, "client", "node-1")
            servers.listen(built.pod(name, "web").netns, PORT)
        yield built


def reaches(cluster: KubeCluster, name: str) -> bool:
    """Whether the client of a namespace reaches its server."""
    return connects(cluster.pod(name, "client").netns, cluster.pod(name, "web").address(4), PORT)


def condition(plane: ControlPlane, name: str, kind: str) -> dict[str, Any]:
    """One of a filter's conditions; empty while there is none."""
    status = plane.get("wildcardfilter", name).get("status") or {}
    return next((one for one in status.get("conditions", []) if one["type"] == kind), {})


def test_a_filter_from_an_older_definition_gets_a_condition_and_harms_nobody(
    installed: ControlPlane, operator: OperatorProcess, cluster: KubeCluster
) -> None:
    client = RestClient(installed)
    bad = wildcard_filter("bad", {**GOOD_FILTER_SPEC, "rules": [{"name": "a", "action": "Reject"}]})
    client.store(bad, GOOD_FILTER_SPEC)
    client.close()
    drop = {**GOOD_FILTER_SPEC, "target": {"pods": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}}
    installed.apply(namespace("sound", a="b"), wildcard_filter("good", drop))

    wait_until(lambda: condition(installed, "bad", "Accepted").get("status") == "False", 60, "it is refused")
    wait_until(
        lambda: condition(installed, "good", "Programmed").get("status") == "True",
        60,
        "the other is in force",
    )

    accepted = condition(installed, "bad", "Accepted")
    assert accepted["reason"] == "InvalidValue"
    assert "spec.rules[0].action" in accepted["message"]
    assert condition(installed, "bad", "Programmed")["reason"] == "NotAccepted"
    assert operator.value("wildcard_operator_refused_objects", kind="WildcardFilter") == 1
    assert operator.healthy()
    assert not reaches(cluster, "sound")
    assert reaches(cluster, "odd")
    installed.kubectl("delete", "wildcardfilters", "--all")
    wait_until(lambda: reaches(cluster, "sound"), 30, "it is open again")


def test_a_rule_set_of_an_unknown_format_isolates_its_namespace_and_no_other(
    installed: ControlPlane, operator: OperatorProcess, cluster: KubeCluster
) -> None:
    operator.stop()
    ruleset = {
        "apiVersion": "wildcard-operator.io/v1alpha1",
        "kind": "RuleSet",
        "metadata": {"namespace": NAMESPACE, "name": "future", "labels": {NAMESPACE_LABEL: "odd"}},
        "spec": {"formatVersion": 99, "novelty": {"of": "a kind that nobody knows"}},
    }
    installed.kubectl("apply", "-f", "-", stdin=json.dumps(ruleset))

    wait_until(lambda: not reaches(cluster, "odd"), 30, "the namespace is isolated")
    assert reaches(cluster, "sound")
    wait_until(lambda: exceptions(installed), 30, "the agent says why")
    assert exceptions(installed)[0]["reason"] == "UnknownFormat"

    operator.start()
    wait_until(lambda: reaches(cluster, "odd"), 90, "the operator takes away what it doesn't know")


def exceptions(plane: ControlPlane) -> list[dict[str, Any]]:
    """What the agent says of policies that are not in force as written."""
    found: list[dict[str, Any]] = plane.get("nodestate", "node-1")["status"]["policies"]["exceptions"]
    return found


def test_a_pod_with_an_address_that_is_none_is_left_out_alone(
    installed: ControlPlane, operator: OperatorProcess, cluster: KubeCluster
) -> None:
    cluster.create_pod("odd", "strange", "node-1", {"app": "strange"})
    cluster.set_pod_status("odd", "strange", ["10.244.1.07"])
    later = cluster.start_pod("odd", "next", "node-1", {"app": "next"})

    wait_until(lambda: set(later.addresses) <= published_addresses(installed), 30, "the next is known")
    assert operator.value("wildcard_operator_refused_objects", kind="Pod") == 1
    assert not {"10.244.1.7", "10.244.1.07"} & published_addresses(installed)
    assert operator.running
    assert reaches(cluster, "odd")


def published_addresses(plane: ControlPlane) -> set[str]:
    """The addresses in all AddressSets."""
    items = plane.get("addresssets", "-n", NAMESPACE)["items"]
    return {address for item in items for address in item["spec"]["addresses"]}
