# SPDX-License-Identifier: Apache-2.0
"""Control planes that hold a large state from the start: written into etcd before the API server runs."""

from __future__ import annotations

import base64
import json
import tempfile
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.controlplane import ControlPlane
from support.manifests import NAMESPACE, install_crds, install_rbac
from wildcard_operator.kube.api import ADDRESS_SETS, RULE_SETS
from wildcard_operator.kube.publish import NAMESPACE_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BATCH = 100
Raw = dict[str, Any]


def stored(raw: Raw, api_version: str, kind: str) -> Raw:
    """An object as the API server would have stored it."""
    metadata = {
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **raw["metadata"],
        "uid": str(uuid.uuid4()),
        "generation": 1,
    }
    return {"apiVersion": api_version, "kind": kind, **raw, "metadata": metadata}


def records(objects: Iterable[Raw]) -> Iterator[tuple[str, Raw]]:
    """Keys and values in etcd of pods and policies, and of the namespaces that they are in."""
    names: dict[str, None] = {}
    for raw in objects:
        metadata = raw["metadata"]
        names[metadata["namespace"]] = None
        is_policy = "podSelector" in raw["spec"]
        plural = "networkpolicies" if is_policy else "pods"
        if is_policy:
            item = stored(raw, "networking.k8s.io/v1", "NetworkPolicy")
            item["spec"] = {"policyTypes": ["Ingress"], **item["spec"]}
        else:
            item = stored(raw, "v1", "Pod")
        yield f"/registry/{plural}/{metadata['namespace']}/{metadata['name']}", item
    for number, name in enumerate(names):
        labels = {"kubernetes.io/metadata.name": name, "team": f"team-{number % 7}"}
        item = stored({"metadata": {"name": name, "labels": labels}}, "v1", "Namespace")
        item |= {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
        yield f"/registry/namespaces/{name}", item


def fill(plane: ControlPlane, pairs: Iterable[tuple[str, Raw]]) -> None:
    """Write into etcd, a hundred objects a transaction; before the API server starts."""
    batch: list[Raw] = []

    def flush() -> None:
        if batch:
            plane.etcd_request("kv/txn", {"success": batch})
            batch.clear()

    for key, value in pairs:
        texts = (base64.b64encode(text.encode()).decode() for text in (key, json.dumps(value)))
        batch.append({"request_put": dict(zip(("key", "value"), texts, strict=True))})
        if len(batch) == BATCH:
            flush()
    flush()


@contextmanager
def loaded(pairs: Iterable[tuple[str, Raw]]) -> Iterator[ControlPlane]:
    """A control plane that holds these objects, with kinds and rights installed."""
    with tempfile.TemporaryDirectory(prefix="wildcard-bench-") as folder:
        plane = ControlPlane(
            Path(folder), managed=False, api_flags=["--audit-policy-file=", "--audit-log-path="]
        )
        try:
            plane.start_etcd()
            fill(plane, pairs)
            plane.start()
            install_crds(plane)
            install_rbac(plane)
            yield plane
        finally:
            plane.stop()


def many_address_sets(count: int) -> Iterator[tuple[str, Raw]]:
    """AddressSets in 200 namespaces, as the operator publishes them."""
    for number in range(200):
        labels = {"kubernetes.io/metadata.name": f"ns-{number}"}
        item = stored({"metadata": {"name": f"ns-{number}", "labels": labels}}, "v1", "Namespace")
        yield (
            f"/registry/namespaces/ns-{number}",
            item | {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}},
        )
    for number in range(count):
        of_namespace, first = f"ns-{number % 200}", number * 5
        addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(first, first + 5)]
        name = f"{uuid.UUID(int=number).hex}-0"
        raw = {
            "metadata": {"namespace": NAMESPACE, "name": name, "labels": {NAMESPACE_LABEL: of_namespace}},
            "spec": {
                "formatVersion": 1,
                "namespace": of_namespace,
                "labels": {"app": f"app-{number}", "tier": "web"},
                "ports": [{"name": "http", "protocol": 6, "port": 8080}],
                "addresses": addresses,
            },
        }
        key = f"/registry/wildcard-operator.io/addresssets/{NAMESPACE}/{name}"
        yield key, stored(raw, ADDRESS_SETS.api_version, "AddressSet")


def let_everybody_in(plane: ControlPlane) -> None:
    """Publish the RuleSet of a policy that lets all pods in to those of the namespace `bench`."""
    everybody = {"pods": {"namespaces": {"selector": []}, "selector": []}}
    rule = {"id": "Ingress/0", "place": 0, "direction": "Ingress", "action": "Allow", "peers": [everybody]}
    spec = {
        "formatVersion": 1,
        "source": {"kind": "NetworkPolicy", "namespace": "bench", "name": "everybody"},
        "generation": 1,
        "mode": "Enforce",
        "priority": 1_000_000,
        "subject": {"pods": {"namespaces": {"name": "bench"}, "selector": []}},
        "isolates": ["Ingress"],
        "rules": [rule],
    }
    metadata = {"namespace": NAMESPACE, "name": "everybody", "labels": {NAMESPACE_LABEL: "bench"}}
    plane.apply({"apiVersion": RULE_SETS.api_version, "kind": "RuleSet", "metadata": metadata, "spec": spec})
