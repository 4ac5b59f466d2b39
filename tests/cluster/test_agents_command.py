# SPDX-License-Identifier: Apache-2.0
"""`wildcardctl agents` against a real DaemonSet controller, where no kubelet ever starts a pod."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.chart import find, render
from support.manifests import NAMESPACE, namespace
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.controlplane import ControlPlane

WILDCARDCTL = Path(sys.executable).parent / "wildcardctl"
DAEMON_SET = ("daemonset", "wildcard-agent", "-n", NAMESPACE)


def agents(plane: ControlPlane, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [WILDCARDCTL, "agents", *arguments, "--kubeconfig", plane.kubeconfig]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def plane(own_control_plane: ControlPlane) -> ControlPlane:
    """The chart's workloads on a node that has no kubelet."""
    documents = render()
    own_control_plane.apply(
        namespace(NAMESPACE),
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "node-1", "labels": {"kubernetes.io/os": "linux"}},
        },
        *(find(documents, "ServiceAccount", f"wildcard-{part}") for part in ("agent", "operator")),
        find(documents, "DaemonSet", "wildcard-agent"),
        find(documents, "Deployment", "wildcard-operator"),
    )
    wait_until(
        lambda: own_control_plane.get(*DAEMON_SET)["status"].get("updatedNumberScheduled") == 1,
        60,
        "the DaemonSet has a pod on the node",
    )
    return own_control_plane


def test_without_agents_there_is_nothing_to_wait_for_or_to_remove(own_control_plane: ControlPlane) -> None:
    own_control_plane.apply(namespace(NAMESPACE))

    assert agents(own_control_plane, "wait").returncode == 0
    assert agents(own_control_plane, "remove").returncode == 0


def test_waiting_ends_when_no_older_agent_is_left(plane: ControlPlane) -> None:
    done = agents(plane, "wait", "--at-most", "60")

    assert (done.returncode, done.stderr) == (0, "")


def test_waiting_goes_on_after_its_time(plane: ControlPlane) -> None:
    newer = {"spec": {"template": {"metadata": {"annotations": {"version": "two"}}}}}
    stuck = {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}}
    for patch in (stuck, newer):
        plane.kubectl("patch", *DAEMON_SET, "--type=merge", "-p", json.dumps(patch))

    done = agents(plane, "wait", "--at-most", "2")

    assert done.returncode == 0
    assert "going on" in done.stderr


def test_removing_fails_where_a_node_is_not_cleaned_in_time(plane: ControlPlane) -> None:
    done = agents(plane, "remove", "--timeout", "3")

    assert done.returncode == 1
    assert "not within" in done.stderr
    assert plane.get("deployment", "wildcard-operator", "-n", NAMESPACE)["spec"]["replicas"] == 0
    (cleaner,) = plane.get(*DAEMON_SET)["spec"]["template"]["spec"]["initContainers"]
    assert cleaner["args"][:2] == ["agent", "--cleanup"]
