# SPDX-License-Identifier: Apache-2.0
"""Pods, Namespaces and Nodes, as far as policies speak of them, from plain dicts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from wildcard_operator.model.addresssets import NamedPort
from wildcard_operator.model.errors import ObjectRef, Refusal
from wildcard_operator.model.fields import Value, root
from wildcard_operator.model.label_selectors import NAMESPACE_NAME_LABEL
from wildcard_operator.model.net import PROTOCOL_NUMBERS, Address, Prefix, parse_address, parse_prefix

POD: Final = "Pod"
NAMESPACE: Final = "Namespace"
NODE: Final = "Node"

Labels = tuple[tuple[str, str], ...]

_TERMINAL_PHASES: Final = frozenset({"Succeeded", "Failed"})
_HOST_ADDRESSES: Final = frozenset({"InternalIP", "ExternalIP"})


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod.

    Attributes:
        labels: Sorted. addresses: `status.podIPs` in their order; () until the kubelet reports them. ports:
        Named container ports; of two with one name and protocol the first container's, as for Services.
        created: `metadata.creationTimestamp`, which sorts as text; "" where there is none. terminal: It has
        ended for good: its containers are gone, its addresses may be another's already.
    """

    namespace: str
    name: str
    uid: str = ""
    labels: Labels = ()
    node: str = ""
    addresses: tuple[Address, ...] = ()
    ports: tuple[NamedPort, ...] = ()
    created: str = ""
    host_network: bool = False
    terminal: bool = False

    @property
    def ref(self) -> ObjectRef:
        """The object's name."""
        return ObjectRef(POD, self.namespace, self.name)

    @property
    def age(self) -> tuple[str, str, str, str]:
        """Sorts pods by age, the newest last; two of one second in an order that everybody agrees on."""
        return self.created, self.namespace, self.name, self.uid


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace. Its labels always carry its name, as the API server sets that label on all."""

    name: str
    labels: Labels = ()

    @property
    def ref(self) -> ObjectRef:
        """The object's name."""
        return ObjectRef(NAMESPACE, "", self.name)


@dataclass(frozen=True, slots=True)
class Node:
    """A node: `addresses` of its host, `pod_ranges` the addresses that its pods get."""

    name: str
    labels: Labels = ()
    addresses: tuple[Address, ...] = ()
    pod_ranges: tuple[Prefix, ...] = ()

    @property
    def ref(self) -> ObjectRef:
        """The object's name."""
        return ObjectRef(NODE, "", self.name)


def namespace_of(name: str) -> Namespace:
    """What is known of a namespace whose object hasn't been seen: the label that every namespace has."""
    return Namespace(name, ((NAMESPACE_NAME_LABEL, name),))


def parse_pod(raw: Any) -> Pod:
    """A Pod; fields that policies don't speak of are not looked at."""
    pod = root(raw, POD)
    metadata, spec, status = pod.required("metadata"), pod.field("spec"), pod.field("status")
    return Pod(
        namespace=_text(metadata.field("namespace")) or "default",
        name=metadata.required("name").text(),
        uid=_text(metadata.field("uid")),
        labels=_labels(metadata),
        node=_text(spec.field("nodeName")),
        addresses=_addresses(status, "podIPs", "podIP"),
        ports=_named_ports(spec),
        created=_timestamp(metadata.field("creationTimestamp")),
        host_network=spec.field("hostNetwork").flag(default=False),
        terminal=_text(status.field("phase")) in _TERMINAL_PHASES,
    )


def parse_host_addresses(raw: Any) -> tuple[str, tuple[Address, ...]]:
    """The node that a Pod runs on, and the addresses of it that the Pod reports.

    An agent knows its node's addresses from the node itself, so `Pod` lacks them.
    """
    pod = root(raw, POD)
    status = pod.field("status")
    return _text(pod.field("spec").field("nodeName")), _addresses(status, "hostIPs", "hostIP")


def parse_namespace(raw: Any) -> Namespace:
    """A Namespace."""
    metadata = root(raw, NAMESPACE).required("metadata")
    name = metadata.required("name").text()
    labels = metadata.field("labels").labels() | {NAMESPACE_NAME_LABEL: name}
    return Namespace(name, tuple(sorted(labels.items())))


def parse_node(raw: Any) -> Node:
    """A Node."""
    node = root(raw, NODE)
    metadata, spec = node.required("metadata"), node.field("spec")
    addresses = [
        item.required("address").parsed(parse_address, Refusal.INVALID_VALUE)
        for item in node.field("status").field("addresses").items()
        if item.field("type").raw in _HOST_ADDRESSES
    ]
    ranges = list(spec.field("podCIDRs").items()) or [spec.field("podCIDR")]
    return Node(
        metadata.required("name").text(),
        _labels(metadata),
        tuple(addresses),
        tuple(item.parsed(parse_prefix, Refusal.INVALID_CIDR)[0] for item in ranges if item.raw),
    )


def _text(value: Value) -> str:
    return value.text() if value.present else ""


def _timestamp(value: Value) -> str:
    """As the API writes it. YAML makes an unquoted one a datetime."""
    if isinstance(value.raw, datetime):
        return value.raw.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return _text(value)


def _labels(metadata: Value) -> Labels:
    return tuple(sorted(metadata.field("labels").labels().items()))


def _addresses(status: Value, plural: str, singular: str) -> tuple[Address, ...]:
    """`podIPs` hold `podIP` as their first; an old kubelet sets the latter only. Null and "" mean not yet."""
    values = [item.field("ip") for item in status.field(plural).items()] or [status.field(singular)]
    parsed = [value.parsed(parse_address, Refusal.INVALID_VALUE) for value in values if value.raw]
    return tuple(dict.fromkeys(parsed))


def _named_ports(spec: Value) -> tuple[NamedPort, ...]:
    """Of containers, and of init containers that go on running beside them (sidecars)."""
    sidecars = [c for c in spec.field("initContainers").items() if c.field("restartPolicy").raw == "Always"]
    ports = {
        _named_port(item)
        for container in [*spec.field("containers").items(), *sidecars]
        for item in container.field("ports").items()
        if item.field("name").raw
    }
    return tuple(sorted(ports))


def _named_port(item: Value) -> NamedPort:
    protocol = item.field("protocol")
    number = PROTOCOL_NUMBERS[protocol.choice(("TCP", "UDP", "SCTP")) if protocol.present else "TCP"]
    port = item.required("containerPort").number(1, 65535, Refusal.INVALID_PORT)
    return NamedPort(item.field("name").text(), number, port)
