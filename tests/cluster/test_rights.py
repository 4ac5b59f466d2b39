# SPDX-License-Identifier: Apache-2.0
"""Each service account may do what its code does, and no more; and nobody else can act in its stead."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from support.controlplane import ControlPlane, KubectlError
from support.kubenodes import KubeCluster, pod_object
from support.manifests import NAMESPACE, install_crds, install_rbac, namespace, wildcard_filter
from support.operators import OperatorProcess
from support.waiting import wait_until
from wildcard_operator.kube.publish import NAMESPACE_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Right = tuple[str, str, str]  # verb, API group, resource with its subresource
POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"namespace": "shop", "name": "deny"},
    "spec": {"podSelector": {}},
}
FILTER = wildcard_filter(
    "f", {"direction": "Ingress", "target": {"pods": {}}, "rules": [{"name": "a", "action": "Pass"}]}
)


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane whose audit log tells of everything that operator and agents ever ask for.

    It offers no lists in one stream, so that pages are asked for too.
    """
    flags = ["--feature-gates=WatchList=false"]
    plane = ControlPlane(tmp_path_factory.mktemp("audited"), api_flags=flags)
    plane.start()
    try:
        install_crds(plane)
        install_rbac(plane)
        work(plane)
        yield plane
    finally:
        plane.stop()


def work(plane: ControlPlane) -> None:
    plane.apply(namespace("shop"))
    with OperatorProcess(plane) as operator, KubeCluster(plane) as cluster:
        operator.wait_until_settled()
        cluster.add_node("node-1")
        cluster.start_pod("shop", "web", "node-1", {"app": "web"})
        plane.apply(POLICY, FILTER)
        plane.kubectl("wait", "wildcardfilter/f", "--for=condition=Programmed", "--timeout=60s")
        for kind in ("rulesets", "addresssets"):
            tamper_with(plane, kind)
        cluster.end_pod("shop", "web")
        plane.kubectl("delete", "networkpolicy", "-n", "shop", "deny")
        for kind in ("rulesets", "addresssets"):
            wait_until(lambda kind=kind: not published(plane, kind), 60, f"the {kind} are gone")
        wait_until(
            lambda: plane.kubectl("get", "events", "-n", "default", "-o", "name"), 60, "there is an Event"
        )
        operator.stop(signal.SIGTERM)


def tamper_with(plane: ControlPlane, kind: str) -> None:
    """Add a field, which the operator takes away again, and with it the record of who set which."""
    wait_until(lambda: published(plane, kind), 60, f"there are {kind}")
    (item,) = published(plane, kind)
    item["spec"]["foreign"] = True
    plane.kubectl("replace", "-f", "-", stdin=json.dumps(item))
    wait_until(lambda: "foreign" not in published(plane, kind)[0]["spec"], 60, f"the {kind} are set right")
    assert "managedFields" not in published(plane, kind)[0]["metadata"]


def published(plane: ControlPlane, kind: str) -> list[dict[str, Any]]:
    """What is published of the namespace `shop`."""
    selected = (kind, "-n", NAMESPACE, "-l", f"{NAMESPACE_LABEL}=shop", "--show-managed-fields")
    items: list[dict[str, Any]] = plane.get(*selected)["items"]
    return items


def granted(plane: ControlPlane, account: str) -> set[Right]:
    """What the chart's roles grant."""
    kinds = ("clusterrole", "role")
    roles = [plane.get(kind, account, *(["-n", NAMESPACE] if kind == "role" else [])) for kind in kinds]
    if account == "wildcard-operator":
        roles.append(plane.get("role", "wildcard-operator-events", "-n", "default"))
    return {
        (verb, group, resource)
        for role in roles
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def used(plane: ControlPlane, account: str) -> set[Right]:
    """What it asked for; an apply that creates needs the right to create as well."""
    rights = set()
    for event in asked(plane, account):
        if "objectRef" not in event or "resource" not in event["objectRef"]:
            continue  # discovery, which everybody may
        ref = event["objectRef"]
        resource = "/".join(part for part in (ref["resource"], ref.get("subresource")) if part)
        rights.add((event["verb"], ref.get("apiGroup", ""), resource))
        if event["verb"] == "patch" and event["responseStatus"]["code"] == 201:
            rights.add(("create", ref.get("apiGroup", ""), resource))
    return rights


def asked(plane: ControlPlane, account: str) -> list[dict[str, Any]]:
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    return [event for event in plane.audit() if event["user"]["username"] == user]


@pytest.mark.parametrize("account", ["wildcard-operator", "wildcard-agent"])
def test_no_call_is_forbidden_and_no_right_is_unused(worked: ControlPlane, account: str) -> None:
    forbidden = [event for event in asked(worked, account) if event["responseStatus"]["code"] in {401, 403}]

    assert forbidden == []
    assert used(worked, account) == granted(worked, account)


def test_an_agent_writes_the_state_of_its_own_node_alone(worked: ControlPlane) -> None:
    agent = pod_object(NAMESPACE, "wildcard-agent-node-1", "node-1", {}, account="wildcard-agent")
    names = ("node-1", "node-2")
    nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in names]
    worked.apply(*nodes, agent)
    own = worked.service_account(NAMESPACE, "wildcard-agent", pod=("wildcard-agent-node-1", "node-1"))
    unbound = worked.service_account(NAMESPACE, "wildcard-agent")

    for kubeconfig in (own, unbound):
        with pytest.raises(KubectlError, match="an agent may write the NodeState of its own node only"):
            write_state(worked, kubeconfig, "node-2")
    write_state(worked, own, "node-1")


def write_state(plane: ControlPlane, kubeconfig: Path, node: str) -> None:
    state = {"apiVersion": "wildcard-operator.io/v1alpha1", "kind": "NodeState", "metadata": {"name": node}}
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(state), kubeconfig=kubeconfig)


@pytest.fixture
def tenant(worked: ControlPlane) -> Path:
    """The token of an account with every right in the namespace `tenant`."""
    worked.apply(namespace("tenant"))
    worked.kubectl("create", "serviceaccount", "boss", "-n", "tenant")
    worked.kubectl("create", "role", "all", "-n", "tenant", "--verb=*", "--resource=*.*,*")
    worked.kubectl(
        "create", "rolebinding", "all", "-n", "tenant", "--role=all", "--serviceaccount=tenant:boss"
    )
    return worked.service_account("tenant", "boss")


def test_a_tenant_has_no_say_outside_of_its_namespace(worked: ControlPlane, tenant: Path) -> None:
    for kind in ("rulesets", "addresssets"):
        with pytest.raises(KubectlError, match="orbidden"):
            worked.kubectl("delete", kind, "--all", "-n", NAMESPACE, kubeconfig=tenant)
    with pytest.raises(KubectlError, match="orbidden"):
        worked.apply(FILTER, kubeconfig=tenant)
    with pytest.raises(KubectlError, match="orbidden"):
        write_state(worked, tenant, "node-1")
