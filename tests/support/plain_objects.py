# SPDX-License-Identifier: Apache-2.0
"""What plain Kubernetes objects say by themselves: labels, addresses, selectors, prefixes, named ports."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.probes import Object

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def addresses_of(pod: Object) -> list[Address]:
    """All of `status.podIPs`."""
    return [ipaddress.ip_address(entry["ip"]) for entry in pod.get("status", {}).get("podIPs") or []]


def addresses_of_node(node: Object) -> list[Address]:
    """All of `status.addresses` that are addresses; the others are names."""
    entries = node.get("status", {}).get("addresses") or []
    return [ipaddress.ip_address(e["address"]) for e in entries if e["type"] in ("InternalIP", "ExternalIP")]


def host_addresses_of(pod: Object) -> list[Address]:
    """The addresses of its node that a pod reports: `status.hostIPs`, or `hostIP` where these lack."""
    status = pod.get("status", {})
    reported = [entry["ip"] for entry in status.get("hostIPs") or []] or [status.get("hostIP")]
    return [ipaddress.ip_address(address) for address in reported if address]


def policy_types(spec: Mapping[str, Any]) -> list[str]:
    """The directions that a policy isolates. Absent: Ingress, and Egress where there is an egress rule."""
    if spec.get("policyTypes"):
        return list(spec["policyTypes"])
    return ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def numbers_of_named_port(pod: Object, name: str, protocol: str) -> set[int]:
    """The numbers that a pod's containers, and its sidecars among the init containers, give to a name."""
    containers = list(pod["spec"].get("containers") or [])
    containers += [c for c in pod["spec"].get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    found = set()
    for container in containers:
        for port in container.get("ports") or []:
            if port.get("name") == name and port.get("protocol", "TCP") == protocol:
                found.add(port["containerPort"])
    return found


def labels_of(item: Object) -> dict[str, str]:
    return dict(item["metadata"].get("labels") or {})


def selector_matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A label selector: everything in it must hold; an empty one selects all."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    return all(_requirement_holds(r, labels) for r in selector.get("matchExpressions") or [])


def _requirement_holds(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = requirement["key"], requirement["operator"], requirement.get("values") or []
    match operator:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            raise ValueError(f"{operator} is no operator")


def cidr_contains(block: Mapping[str, Any], address: Address) -> bool:
    """`{cidr, except}`: inside the one and outside of all the others. Host bits are masked."""

    def inside(cidr: str) -> bool:
        return address in ipaddress.ip_network(cidr, strict=False)

    return inside(block["cidr"]) and not any(inside(cidr) for cidr in block.get("except") or [])
