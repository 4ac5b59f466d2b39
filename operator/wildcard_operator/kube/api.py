# SPDX-License-Identifier: Apache-2.0
"""What the rest of the project may ask of a Kubernetes API server: raw JSON objects, one request or one watch
at a time.

Objects stay plain dicts: the client's typed models cost ten times the memory of what is read from them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

Json = dict[str, Any]

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA_WATCH = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

PAGE_SIZE = 500

UNREACHABLE = 0
CONFLICT = 409
GONE = 410
BAD_REQUEST = 400
UNPROCESSABLE = 422
TOO_MANY_REQUESTS = 429
NOT_FOUND = 404
SERVER_ERROR = 500


class ApiError(Exception):
    """A request that failed.

    `status` is the HTTP status, or UNREACHABLE where there was no answer; `retry_after` are the seconds that
    the server asked to wait, or None.
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{reason or status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """One resource of the API: `pods` of v1, `rulesets` of wildcard-operator.io/v1alpha1.

    Each is a constant, equal to itself alone, which makes it cheap as a key.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """The URL's path of the collection (of all namespaces, where none is given) or of one object."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/" + "/".join(parts)


GROUP = "wildcard-operator.io"
VERSION = "v1alpha1"

PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
WILDCARD_FILTERS = Resource(GROUP, VERSION, "wildcardfilters", "WildcardFilter", namespaced=False)
RULE_SETS = Resource(GROUP, VERSION, "rulesets", "RuleSet")
ADDRESS_SETS = Resource(GROUP, VERSION, "addresssets", "AddressSet")
NODE_STATES = Resource(GROUP, VERSION, "nodestates", "NodeState", namespaced=False)


class Api(Protocol):
    """A connection to an API server."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout: float = 60,
    ) -> Json:
        """Make one request and return the object that it answers with. Raises ApiError."""
        ...

    def watch(self, path: str, query: Mapping[str, str], *, accept: str = JSON) -> AsyncGenerator[Json, None]:
        """Yield the events of a watch until the server ends it. Raises ApiError; closing it ends the
        request.
        """
        ...

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until a request reaches the server again."""
        ...


def key_of(item: Json) -> tuple[str, str]:
    """Namespace ("" where it has none) and name of an object."""
    metadata = item["metadata"]
    return sys.intern(metadata.get("namespace", "")), metadata["name"]


async def list_all(api: Api, resource: Resource, namespace: str | None = None) -> list[Json]:
    """All objects of a collection, read in consistent pages. Raises ApiError."""
    query, items = {"limit": str(PAGE_SIZE)}, []
    while True:
        page = await api.request("GET", resource.path(namespace), query=query)
        items += page["items"]
        token = page["metadata"].get("continue")
        if not token:
            return items
        query["continue"] = token
