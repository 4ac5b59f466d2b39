# SPDX-License-Identifier: Apache-2.0
"""What Kubernetes means by a policy, evaluated the slow and obvious way: the oracle of every other evaluator.

Written from the documentation of NetworkPolicy v1 and of WildcardFilter, on plain dicts as YAML gives
them, and without a line in common with the compiler. Every probe looks at every object again; nothing is
prepared, cached or ordered cleverly, so that each sentence of the documentation is found here as one `if`.

Node filters are left out, as `wildcardctl simulate` leaves them out. Objects are taken to be valid.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.plain_objects import (
    Address,
    addresses_of,
    addresses_of_node,
    cidr_contains,
    host_addresses_of,
    labels_of,
    numbers_of_named_port,
    policy_types,
    selector_matches,
)
from support.probes import Decider, Object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

NOT_ISOLATED = "not isolated"
OWN_NODE = "own node"
SELF = "self"
DEFAULT_DENY = "default-deny"
DEFAULT_PRIORITY = 1000
ANYBODY: Object = {}
PROTOCOL_NUMBERS = {"ICMP": 1, "TCP": 6, "UDP": 17, "ICMPv6": 58, "SCTP": 132}
NUMBERS_WITH_PORTS = (6, 17, 132)
NUMBERS_OF_ICMP = {4: 1, 6: 58}
VOLATILE_LABELS = (
    "pod-template-hash",
    "controller-revision-hash",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
)
"""Labels that no author knows beforehand: a peer selector that mentions one is refused, and admits nobody."""


@dataclass(frozen=True, slots=True)
class End:
    """One end's answer: `by` a rule, or, where no rule decided, None with the `reason` why the end allows."""

    allowed: bool
    by: Decider | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Both ends must agree. `depends_on`: what the probe leaves open and a rule on the way asked for."""

    allowed: bool
    egress: End
    ingress: End
    depends_on: frozenset[str]


def evaluate(objects: Sequence[Object], probe: Mapping[str, Any]) -> Answer:
    """Answer one probe: {from, to, protocol, port, sourcePort, icmp, tcpFlags}.

    `from` and `to` are `namespace/pod` (its first address) or an address.
    """
    cluster = _Cluster(objects)
    packet = _Packet(cluster, probe)
    egress = _judge(cluster, packet, "Egress")
    ingress = _judge(cluster, packet, "Ingress")
    return Answer(egress.allowed and ingress.allowed, egress, ingress, frozenset(packet.depends_on))


class _Cluster:
    """The objects by kind."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self.of_kind: dict[str, list[Object]] = {}
        for item in objects:
            self.of_kind.setdefault(item["kind"], []).append(item)

    def pod_with_address(self, address: Address) -> Object | None:
        """The pod that an address belongs to. Those of the host's network and of ended pods are nobody's."""
        owners = [pod for pod in self.of_kind.get("Pod", []) if self._owns(pod, address)]
        return max(owners, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")), default=None)

    def pod_named(self, name: str) -> Object:
        namespace, _, pod_name = name.partition("/")
        for pod in self.of_kind.get("Pod", []):
            if (pod["metadata"]["namespace"], pod["metadata"]["name"]) == (namespace, pod_name):
                return pod
        raise KeyError(name)

    def namespace_labels(self, name: str) -> dict[str, str]:
        labels = {"kubernetes.io/metadata.name": name}
        for namespace in self.of_kind.get("Namespace", []):
            if namespace["metadata"]["name"] == name:
                labels = labels_of(namespace) | labels
        return labels

    def node_has_address(self, node_name: str | None, address: Address) -> bool:
        nodes = [node for node in self.of_kind.get("Node", []) if node["metadata"]["name"] == node_name]
        pods = [pod for pod in self.of_kind.get("Pod", []) if pod["spec"].get("nodeName") == node_name]
        return any(address in addresses_of_node(node) for node in nodes) or any(
            address in host_addresses_of(pod) for pod in pods
        )

    def _owns(self, pod: Object, address: Address) -> bool:
        if pod["spec"].get("hostNetwork"):
            return False
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return False
        return address in addresses_of(pod)


class _Packet:
    """A probe with its addresses parsed and the pods at its ends found."""

    def __init__(self, cluster: _Cluster, probe: Mapping[str, Any]) -> None:
        self.source = _address_of_end(cluster, probe["from"])
        self.destination = _address_of_end(cluster, probe["to"])
        if self.source.version != self.destination.version:
            raise ValueError(f"{probe['from']} and {probe['to']} are of two families")
        self.source_pod = cluster.pod_with_address(self.source)
        self.destination_pod = cluster.pod_with_address(self.destination)
        self.protocol = protocol_number(probe.get("protocol", "TCP"))
        self.port: int | None = probe.get("port")
        self.source_port: int | None = probe.get("sourcePort")
        self.icmp: Mapping[str, int] = probe.get("icmp") or {}
        self.tcp_flags: Sequence[str] | None = probe.get("tcpFlags")
        self.depends_on: set[str] = set()


def _address_of_end(cluster: _Cluster, end: str) -> Address:
    return addresses_of(cluster.pod_named(end))[0] if "/" in end else ipaddress.ip_address(end)


def protocol_number(protocol: str | int) -> int:
    """A protocol's number from its name or number; 0 is a number like any other."""
    return PROTOCOL_NUMBERS[protocol] if isinstance(protocol, str) else protocol


def _judge(cluster: _Cluster, packet: _Packet, direction: str) -> End:
    """One end alone: the source for Egress, the destination for Ingress."""
    pod = packet.source_pod if direction == "Egress" else packet.destination_pod
    if pod is None:
        return End(True, None, NOT_ISOLATED)
    if packet.source_pod is packet.destination_pod:
        return End(True, None, SELF)
    node_name = pod["spec"].get("nodeName")
    # What the pod's own node sends, no filter sees; what a pod sends to its own node, its filters judge.
    if direction == "Ingress" and cluster.node_has_address(node_name, packet.source):
        return End(True, None, OWN_NODE)
    by_filter = _judge_by_filters(cluster, packet, pod, direction)
    if by_filter is not None:
        return by_filter
    if direction == "Egress" and cluster.node_has_address(node_name, packet.destination):
        return End(True, None, OWN_NODE)
    return _judge_by_policies(cluster, packet, pod, direction)


# --- NetworkPolicy v1 ---


def _judge_by_policies(cluster: _Cluster, packet: _Packet, pod: Object, direction: str) -> End:
    selecting = [
        policy for policy in cluster.of_kind.get("NetworkPolicy", []) if _selects(policy, pod, direction)
    ]
    if not selecting:
        return End(True, None, NOT_ISOLATED)
    selecting.sort(key=lambda policy: policy["metadata"]["name"].encode())
    for policy in selecting:
        for place, rule in enumerate(policy["spec"].get(direction.lower()) or []):
            if _policy_rule_matches(cluster, packet, policy, rule, direction):
                return End(True, _policy_decider(policy, f"{direction.lower()}[{place}]"))
    return End(False, _policy_decider(selecting[0], DEFAULT_DENY))


def _policy_decider(policy: Object, rule: str) -> Decider:
    meta = policy["metadata"]
    return Decider("NetworkPolicy", meta["namespace"], meta["name"], rule)


def _selects(policy: Object, pod: Object, direction: str) -> bool:
    return (
        policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
        and direction in policy_types(policy["spec"])
        and selector_matches(policy["spec"].get("podSelector") or {}, labels_of(pod))
    )


def _policy_rule_matches(
    cluster: _Cluster, packet: _Packet, policy: Object, rule: Mapping[str, Any], direction: str
) -> bool:
    """One peer and one port of the rule must fit; an absent or empty list of either is any."""
    address = packet.source if direction == "Ingress" else packet.destination
    for peer in rule.get("from" if direction == "Ingress" else "to") or [ANYBODY]:
        if peer is not ANYBODY and not _peer_matches(cluster, peer, address, policy):
            continue
        # A named port is a number of the destination pod; a range of addresses to go to has no pods.
        named = direction == "Ingress" or peer.get("ipBlock") is None
        if not rule.get("ports") or any(_port_matches(packet, port, named) for port in rule["ports"]):
            return True
    return False


def _peer_matches(cluster: _Cluster, peer: Mapping[str, Any], address: Address, policy: Object) -> bool:
    if peer.get("ipBlock") is not None:
        return cidr_contains(peer["ipBlock"], address)
    pod = cluster.pod_with_address(address)
    if pod is None or _mentions_volatile_label(peer.get("podSelector") or {}):
        return False
    namespace = pod["metadata"]["namespace"]
    if peer.get("namespaceSelector") is not None:
        if not selector_matches(peer["namespaceSelector"], cluster.namespace_labels(namespace)):
            return False
    elif namespace != policy["metadata"]["namespace"]:
        return False
    return selector_matches(peer.get("podSelector") or {}, labels_of(pod))


def _mentions_volatile_label(selector: Mapping[str, Any]) -> bool:
    keys = [requirement["key"] for requirement in selector.get("matchExpressions") or []]
    return any(key in VOLATILE_LABELS for key in (*keys, *(selector.get("matchLabels") or {})))


def _port_matches(packet: _Packet, port: Mapping[str, Any], names_resolve: bool) -> bool:
    protocol = port.get("protocol") or "TCP"
    if packet.protocol != protocol_number(protocol):
        return False
    wanted = port.get("port")
    if wanted is None:
        return True
    if packet.port is None:
        return False
    if isinstance(wanted, str):
        if not names_resolve or packet.destination_pod is None:
            return False
        return packet.port in numbers_of_named_port(packet.destination_pod, wanted, protocol)
    return packet.port in range(wanted, port.get("endPort", wanted) + 1)


# --- WildcardFilter ---


def _judge_by_filters(cluster: _Cluster, packet: _Packet, pod: Object, direction: str) -> End | None:
    """The first match decides by Allow or Drop; Pass, and no match at all, leave it to the policies."""
    for filter_, rule in _filter_rules(cluster, pod, direction):
        if not _filter_rule_matches(packet, rule):
            continue
        if rule["action"] == "Pass":
            return None
        return End(
            rule["action"] == "Allow",
            Decider("WildcardFilter", None, filter_["metadata"]["name"], rule["name"]),
        )
    return None


def _filter_rules(cluster: _Cluster, pod: Object, direction: str) -> Iterator[tuple[Object, Object]]:
    applying = [
        item for item in cluster.of_kind.get("WildcardFilter", []) if _applies(cluster, item, pod, direction)
    ]
    applying.sort(
        key=lambda item: (item["spec"].get("priority", DEFAULT_PRIORITY), item["metadata"]["name"].encode())
    )
    for item in applying:
        for rule in item["spec"]["rules"]:
            yield item, rule


def _applies(cluster: _Cluster, filter_: Object, pod: Object, direction: str) -> bool:
    spec = filter_["spec"]
    if spec.get("mode", "Enforce") != "Enforce" or spec["direction"] != direction:
        return False
    target = spec["target"].get("pods")
    if target is None:
        return False
    namespace_labels = cluster.namespace_labels(pod["metadata"]["namespace"])
    return selector_matches(target.get("namespaceSelector") or {}, namespace_labels) and selector_matches(
        target.get("podSelector") or {}, labels_of(pod)
    )


def _filter_rule_matches(packet: _Packet, rule: Mapping[str, Any]) -> bool:
    """All that is stated must fit. A rule that what the probe leaves open would complete doesn't match."""
    if not (
        _protocol_fits(packet, rule)
        and _any_cidr_contains(rule.get("sources"), packet.source)
        and _any_cidr_contains(rule.get("destinations"), packet.destination)
        and _any_range_contains(rule.get("destinationPorts"), packet.port)
    ):
        return False
    fits = {
        "sourcePort": _source_port_fits(packet, rule),
        "icmp": _icmp_fits(packet, rule),
        "tcpFlags": _tcp_flags_fit(packet, rule),
    }
    if False in fits.values():
        return False
    left_open = {name for name, answer in fits.items() if answer is None}
    packet.depends_on |= left_open
    return not left_open


def _protocol_fits(packet: _Packet, rule: Mapping[str, Any]) -> bool:
    if rule.get("protocol") is not None:
        return packet.protocol == protocol_number(rule["protocol"])
    if rule.get("icmp") is not None:
        return packet.protocol == NUMBERS_OF_ICMP[packet.source.version]
    if rule.get("tcpFlags") is not None:
        return packet.protocol == PROTOCOL_NUMBERS["TCP"]
    if rule.get("sourcePorts") or rule.get("destinationPorts"):
        return packet.protocol in NUMBERS_WITH_PORTS
    return True


def _any_cidr_contains(blocks: Sequence[Mapping[str, Any]] | None, address: Address) -> bool:
    return not blocks or any(cidr_contains(block, address) for block in blocks)


def _any_range_contains(ranges: Sequence[Mapping[str, int]] | None, port: int | None) -> bool:
    if not ranges:
        return True
    return port is not None and any(r["port"] <= port <= r.get("endPort", r["port"]) for r in ranges)


def _source_port_fits(packet: _Packet, rule: Mapping[str, Any]) -> bool | None:
    """None, here and below, where the rule asks for what the probe leaves open."""
    if rule.get("sourcePorts") and packet.source_port is None:
        return None
    return _any_range_contains(rule.get("sourcePorts"), packet.source_port)


def _icmp_fits(packet: _Packet, rule: Mapping[str, Any]) -> bool | None:
    wanted = rule.get("icmp") or {}
    if any(packet.icmp[name] != value for name, value in wanted.items() if name in packet.icmp):
        return False
    return True if wanted.keys() <= packet.icmp.keys() else None


def _tcp_flags_fit(packet: _Packet, rule: Mapping[str, Any]) -> bool | None:
    wanted = rule.get("tcpFlags")
    if wanted is None:
        return True
    if packet.tcp_flags is None:
        return None
    value = set(wanted.get("value") or [])
    mask = set(wanted.get("mask") or value)
    return set(packet.tcp_flags) & mask == value
