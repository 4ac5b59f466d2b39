# SPDX-License-Identifier: Apache-2.0
"""The chart as its users have it: installed, tested, upgraded and uninstalled by Helm on two real kubelets.

The tests of this module are one story; each takes up where the one before it ended.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import pytest

from support.manifests import CHART, NAMESPACE, ROOT, wildcard_filter
from support.realcluster.cluster import IMAGE
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.realcluster.cluster import RealCluster

    from .conftest import Shop

RELEASE = "wildcard"
OURS = (
    *("--namespace", NAMESPACE, "--set", "image.repository={},image.tag={}".format(*IMAGE.rsplit(":"))),
    *("--wait", "--timeout", "180s"),
)
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"namespace": "market", "name": "web"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "web"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
    },
}
FILTER = wildcard_filter(
    "no-81-from-n2",
    {
        "direction": "Ingress",
        "target": {"pods": {"podSelector": {"matchLabels": {"app": "web"}}}},
        "rules": [
            {
                "name": "second-port",
                "action": "Drop",
                "protocol": "TCP",
                "sources": [{"cidr": "10.244.2.0/24"}],
                "destinationPorts": [{"port": 8081}],
            }
        ],
    },
)
EVERYTHING = {name: {80, 81} for name in ("friend-n1", "friend-n2", "stranger-n1", "stranger-n2")}
BY_POLICY: dict[str, set[int]] = {**EVERYTHING, "stranger-n1": set(), "stranger-n2": set()}
BY_BOTH = {**BY_POLICY, "friend-n2": {80}}


@pytest.fixture(scope="module")
def before(cluster: RealCluster, shop: Shop) -> set[str]:
    """All that the API server holds before the release comes."""
    shop.wait_until_all_see(EVERYTHING)
    wait_until(lambda: cluster.exists("serviceaccount", "default", "-n", NAMESPACE), 20, "accounts are there")
    return objects(cluster)


def objects(cluster: RealCluster) -> set[str]:
    """Everything in the API but Events, which nobody owns, and what kubelets make when they get to it."""
    kinds = set(cluster.kubectl("api-resources", "--verbs=list", "-o", "name").split())
    kinds -= {"events", "events.events.k8s.io", "componentstatuses"}
    lines = cluster.kubectl("get", ",".join(sorted(kinds)), "-A", "--no-headers", "-o", COLUMNS).splitlines()
    found = {" ".join(line.split()) for line in lines}
    return {one for one in found if not one.startswith("Lease kube-node-lease ")}


COLUMNS = "custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name"


def test_helm_installs_it_and_both_nodes_enforce(cluster: RealCluster, before: set[str]) -> None:
    cluster.helm("install", RELEASE, CHART, *OURS)

    states = {item["metadata"]["name"]: item for item in cluster.get("nodestates")["items"]}
    assert states.keys() == cluster.nodes.keys()
    for state in states.values():
        assert {one["type"]: one["status"] for one in state["status"]["conditions"]} == {
            "Enforcing": "True",
            "Synced": "True",
        }
    assert before < objects(cluster)


def test_no_pod_is_privileged(cluster: RealCluster) -> None:
    pods = cluster.get("pods", "-n", NAMESPACE)["items"]
    contexts = [one["securityContext"] for item in pods for one in item["spec"]["containers"]]

    assert len(contexts) == 4
    assert not any(context.get("privileged") or context["allowPrivilegeEscalation"] for context in contexts)
    added = [context["capabilities"].get("add", []) for context in contexts]
    assert sorted(added) == [[], [], ["BPF", "NET_ADMIN", "PERFMON"], ["BPF", "NET_ADMIN", "PERFMON"]]


def test_the_image_runs_without_root_and_has_no_compiler(cluster: RealCluster) -> None:
    look = "id -u; for tool in cc gcc clang clang-19 make pip; do command -v $tool; done; true"
    told = cluster.kubectl(
        *("exec", "-n", NAMESPACE, "deployment/wildcard-operator", "-c", "operator", "--", "sh", "-c", look)
    )

    assert told.split() == ["65532"]


def test_pods_on_both_nodes_obey_a_policy_through_a_service(cluster: RealCluster, shop: Shop) -> None:
    cluster.apply(POLICY)

    shop.wait_until_all_see(BY_POLICY)


def test_they_obey_a_filter_too(cluster: RealCluster, shop: Shop) -> None:
    cluster.apply(FILTER)
    cluster.kubectl("wait", "wildcardfilter", "no-81-from-n2", "--for=condition=Programmed", "--timeout=30s")

    shop.wait_until_all_see(BY_BOTH)


def test_its_counters_count(cluster: RealCluster) -> None:
    cluster_wide = [metrics(cluster, node) for node in cluster.nodes]
    dropped = 'wildcard_rule_packets_total{action="Drop".*policy="no-81-from-n2",rule="second-port"} [1-9]'

    assert any(re.search(dropped, text) for text in cluster_wide)


def test_the_tutorial_can_be_followed_literally(cluster: RealCluster, tmp_path: Path) -> None:
    text = (ROOT / "docs/tutorial.md").read_text().replace("python:3-slim", IMAGE)
    script = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    done = subprocess.run(
        cluster.hub.command("bash", "-eu", "-c", script, flags=("-n",)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "KUBECONFIG": str(cluster.kubeconfig),
            "PATH": f"{cluster.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(?:friend|stranger) (?:connects|does not)$", done.stdout, re.MULTILINE) == [
        *("friend connects", "stranger connects"),
        *("friend connects", "stranger does not"),
        *("friend connects", "friend does not"),
    ]
    assert re.search(r"^wildcard_default_deny_packets_total.* [1-9]", done.stdout, re.MULTILINE)


def metrics(cluster: RealCluster, node: str) -> str:
    return cluster.nodes[node].run("curl", "-sf", "http://127.0.0.1:9797/metrics")


def test_helm_test_passes(cluster: RealCluster) -> None:
    told = cluster.helm("test", RELEASE, "--namespace", NAMESPACE, "--logs")

    assert "a friend sees what the NetworkPolicy lets it see" in told
    assert "a stranger sees what the NetworkPolicy lets it see" in told


def test_an_upgrade_under_traffic_shows_no_wrong_verdict(cluster: RealCluster, shop: Shop) -> None:
    pods = names_of(cluster)
    since = time()
    again = "agent.podAnnotations.version=two,operator.podAnnotations.version=two"
    cluster.helm("upgrade", RELEASE, CHART, *OURS, "--set", again)
    for workload in ("daemonset/wildcard-agent", "deployment/wildcard-operator"):
        cluster.kubectl("rollout", "status", workload, "-n", NAMESPACE, "--timeout=120s")

    assert names_of(cluster).isdisjoint(pods), "every pod was replaced"
    assert started(cluster, "agent") <= started(cluster, "operator"), "agents before the operator"
    shop.wait_until_all_see(BY_BOTH)
    expected = {
        name: {port: {"yes" if port in reached else "no"} for port in (80, 81)}
        for name, reached in BY_BOTH.items()
    }
    assert shop.answers(since) == expected


def started(cluster: RealCluster, component: str) -> str:
    """When the first operator, or the last agent, has started; as text that sorts."""
    states = [item["status"]["containerStatuses"][0]["state"] for item in living(cluster, component)]
    times = [state["running"]["startedAt"] for state in states]
    return min(times) if component == "operator" else max(times)


def names_of(cluster: RealCluster) -> set[str]:
    parts = ("agent", "operator")
    return {item["metadata"]["name"] for part in parts for item in living(cluster, part)}


def living(cluster: RealCluster, component: str) -> list[dict[str, Any]]:
    """A component's pods that are not about to end."""
    items = cluster.get("pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/component={component}")["items"]
    return [item for item in items if "deletionTimestamp" not in item["metadata"]]


def test_without_agents_and_operator_what_is_in_force_stays_so(cluster: RealCluster, shop: Shop) -> None:
    away = {"spec": {"template": {"spec": {"nodeSelector": {"example.com/nowhere": ""}}}}}
    daemon_set = ("daemonset", "wildcard-agent", "-n", NAMESPACE)
    cluster.kubectl("patch", *daemon_set, "--type=strategic", "-p", f"{away}".replace("'", '"'))
    cluster.kubectl("scale", "deployment/wildcard-operator", "-n", NAMESPACE, "--replicas=0")
    wait_until(lambda: not names_of(cluster), 60, "all pods of ours are gone")

    shop.wait_until_all_see(BY_BOTH)
    cluster.kubectl("patch", *daemon_set, "--type=json", "-p", BACK)
    cluster.kubectl("scale", "deployment/wildcard-operator", "-n", NAMESPACE, "--replicas=2")
    for workload in ("daemonset/wildcard-agent", "deployment/wildcard-operator"):
        cluster.kubectl("rollout", "status", workload, "-n", NAMESPACE, "--timeout=120s")


BACK = '[{"op": "remove", "path": "/spec/template/spec/nodeSelector/example.com~1nowhere"}]'


def test_uninstalling_leaves_nothing(cluster: RealCluster, shop: Shop, before: set[str]) -> None:
    cluster.kubectl("delete", "networkpolicy", "web", "-n", "market")
    cluster.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "180s")

    shop.wait_until_all_see(EVERYTHING)
    for place in cluster.nodes.values():
        assert "wildcard" not in place.run("ls", "/sys/fs/bpf")
        assert "wildcard" not in place.run("nft", "list", "tables")
    assert cluster.exists("wildcardfilter", "no-81-from-n2"), "what users wrote stays until they delete it"
    cluster.kubectl("delete", "crd", "wildcardfilters.wildcard-operator.io")
    wait_until(lambda: objects(cluster) == before, 60, lambda: f"left: {objects(cluster) ^ before}", every=1)
