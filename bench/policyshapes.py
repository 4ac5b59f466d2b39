# SPDX-License-Identifier: Apache-2.0
"""Clusters of pods and policies in three shapes, as raw objects of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PODS_PER_NODE = 100
REPLICAS = 10
Raw = dict[str, Any]


def pod(number: int, namespace: str, labels: dict[str, str]) -> Raw:
    """A running pod; every hundred are on one node."""
    return {
        "metadata": {
            "namespace": namespace,
            "name": f"pod-{number}",
            "uid": f"uid-{number}",
            "labels": labels,
        },
        "spec": {
            "nodeName": f"node-{number // PODS_PER_NODE}",
            "containers": [{"name": "main", "ports": [{"name": "http", "containerPort": 8080}]}],
        },
        "status": {"phase": "Running", "podIPs": [{"ip": _address(number)}]},
    }


def _address(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def policy(name: str, namespace: str, selector: Raw, peer: Raw) -> Raw:
    """A policy that lets one peer in to one port."""
    ports = [{"port": 8080}]
    return {
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"podSelector": selector, "ingress": [{"from": [peer], "ports": ports}]},
    }


def labels(**values: str) -> Raw:
    """A selector by labels."""
    return {"matchLabels": values}


def one_per_namespace(pods: int, policies: int) -> Iterator[Raw]:
    """Namespaces with a policy each that lets its own pods in."""
    for number in range(policies):
        yield policy("own", f"ns-{number}", {}, {"podSelector": {}})
    for number in range(pods):
        app = f"app-{number // policies % REPLICAS}"
        yield pod(number, f"ns-{number % policies}", {"app": app, "tier": "web"})


def many_over_all(pods: int, policies: int) -> Iterator[Raw]:
    """One namespace: every policy selects all of its pods, and lets those of one application in."""
    apps = max(pods // REPLICAS, 1)
    for number in range(policies):
        yield policy(f"allow-{number:06}", "shared", {}, {"podSelector": labels(app=f"app-{number % apps}")})
    for number in range(pods):
        yield pod(number, "shared", {"app": f"app-{number % apps}", "tier": "web"})


def chained(pods: int, policies: int) -> Iterator[Raw]:
    """A hundred namespaces of applications, each of which lets the next one in."""
    apps = max(pods // REPLICAS, 1)
    for number in range(policies):
        app = number % apps
        peer = {
            "podSelector": labels(app=f"app-{(app + 1) % apps}"),
            "namespaceSelector": labels(team=f"team-{app % 7}"),
        }
        yield policy(f"chain-{number:06}", f"ns-{app % 100}", labels(app=f"app-{app}"), peer)
    for number in range(pods):
        app = number % apps
        yield pod(number, f"ns-{app % 100}", {"app": f"app-{app}", "tier": "web"})


SHAPES: dict[str, Callable[[int, int], Iterator[Raw]]] = {
    "one policy per namespace": one_per_namespace,
    "many policies over all pods": many_over_all,
    "chained selectors": chained,
}
