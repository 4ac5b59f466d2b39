# SPDX-License-Identifier: Apache-2.0
"""A blocking client for a control plane, as admin: what would take kubectl a tenth of a second a call."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from typing import TYPE_CHECKING, Any

from wildcard_operator.kube.api import (
    MERGE_PATCH,
    NAMESPACES,
    NETWORK_POLICIES,
    NODES,
    NOT_FOUND,
    PODS,
    WILDCARD_FILTERS,
    ApiError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.controlplane import ControlPlane
    from wildcard_operator.kube.api import Resource

# An API server ends a connection that nobody used for 90 seconds.
IDLE_SECONDS = 45
RESOURCES = {one.kind: one for one in (NAMESPACES, NODES, PODS, NETWORK_POLICIES, WILDCARD_FILTERS)}


class RestClient:
    """One connection that is kept open."""

    def __init__(self, plane: ControlPlane) -> None:
        context = ssl.create_default_context(cafile=str(plane.folder / "ca.crt"))
        context.load_cert_chain(plane.folder / "admin.crt", plane.folder / "admin.key")
        self._connection = http.client.HTTPSConnection("127.0.0.1", plane.port, context=context, timeout=30)
        self._plane = plane
        self._used = time.monotonic()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        """Make a request. Raises ApiError."""
        headers = {"Content-Type": content_type}
        if time.monotonic() - self._used > IDLE_SECONDS:
            self._connection.close()  # the next request opens it again
        self._used = time.monotonic()
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status >= 400:
            raise ApiError(response.status, answer.get("reason", ""), answer.get("message", ""))
        return answer

    def stream(self, path: str) -> Iterator[bytes]:
        """The lines of a watch, for good; the connection serves nothing else any more."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        self._connection.sock.settimeout(None)
        yield from iter(response.readline, b"")

    def exists(self, path: str) -> bool:
        """Whether an object is there."""
        try:
            self.request("GET", path)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return False
        return True

    def create(self, item: dict[str, Any]) -> Any:
        """Create an object, its status included."""
        resource, namespace, _ = where(item)
        created = self.request("POST", resource.path(namespace), {**item, "apiVersion": resource.api_version})
        if "status" in item and resource in {PODS, NODES}:
            self.set_status(item)
        return created

    def put(self, item: dict[str, Any]) -> None:
        """Create an object or replace the one of its name; its status too."""
        resource, namespace, name = where(item)
        try:
            old = self.request("GET", resource.path(namespace, name))
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            self.create(item)
            return
        metadata = {**old["metadata"], "labels": {}, **item["metadata"]}
        whole = {**old, **item, "apiVersion": resource.api_version, "metadata": metadata}
        if resource in {PODS, NODES}:  # which hardly lets itself be changed
            whole["spec"] = old["spec"]
        self.request("PUT", resource.path(namespace, name), whole)
        if "status" in item and resource in {PODS, NODES}:
            self.set_status(item)

    def set_status(self, item: dict[str, Any]) -> None:
        """Report an object's status, as a kubelet would."""
        resource, namespace, name = where(item)
        self.request(
            "PATCH", resource.path(namespace, name, "status"), {"status": item["status"]}, MERGE_PATCH
        )

    def delete(self, resource: Resource, namespace: str, name: str, grace: int = 0) -> None:
        """Delete an object; fine where it is gone."""
        try:
            self.request("DELETE", resource.path(namespace, name), {"gracePeriodSeconds": grace})
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise

    def store(self, item: dict[str, Any], acceptable: dict[str, Any]) -> None:
        """Write an object into etcd itself, past all that the API server would say about it.

        It is made with an `acceptable` spec first, so that it has all that an object has.
        """
        resource, namespace, name = where(item)
        self.create({**item, "spec": acceptable})
        whole = self.request("GET", resource.path(namespace, name)) | {"spec": item["spec"]}
        parts = [part for part in (resource.plural, namespace, name) if part]
        key = "/".join(["/registry", *([resource.group] if resource is WILDCARD_FILTERS else []), *parts])
        pair = {"key": _text64(key), "value": _text64(json.dumps(whole))}
        self._plane.etcd_request("kv/put", pair)


def where(item: dict[str, Any]) -> tuple[Resource, str, str]:
    """The resource, namespace and name of an object."""
    metadata = item["metadata"]
    return RESOURCES[item["kind"]], metadata.get("namespace", ""), metadata["name"]


def _text64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
