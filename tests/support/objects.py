# SPDX-License-Identifier: Apache-2.0
"""Short ways to write Kubernetes objects in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.topology import Pod

Object = dict[str, Any]


def pod_object(pod: Pod, node: str, **labels: str) -> Object:
    """The Pod of a namespace that runs on a node; its label `app` is its name."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": pod.name, "labels": {"app": pod.name, **labels}},
        "spec": {"nodeName": node},
        "status": {"podIPs": [{"ip": address} for address in pod.addresses]},
    }


def policy(name: str, app: str | None, **spec: Any) -> Object:
    """A NetworkPolicy for the pods with a label `app`, or for all."""
    selector = {"matchLabels": {"app": app}} if app else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"podSelector": selector, **spec},
    }


def wildcard_filter(name: str, direction: str, target: Object, *rules: Object, **spec: Any) -> Object:
    """A WildcardFilter."""
    return {
        "apiVersion": "wildcard-operator.io/v1alpha1",
        "kind": "WildcardFilter",
        "metadata": {"name": name},
        "spec": {"direction": direction, "target": target, "rules": list(rules), **spec},
    }
