# SPDX-License-Identifier: Apache-2.0
"""Random clusters, policies, filters and probes for property tests, as plain dicts.

The alphabets are small on purpose: two namespaces, few labels, ports and prefixes, so that selectors
overlap, ranges touch and excepts cut. All that is generated is valid for the API server, and nothing is
generated whose meaning the documents leave open (two pods of one address and one age, errors of ICMP).
Strategies are cached: hypothesis spends more on building one than on drawing from it.
"""

from __future__ import annotations

import ipaddress
import random
from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

from support.plain_objects import host_addresses_of
from support.rule_strategies import (
    CROWDED,
    LABELS,
    NAMESPACE_LABELS,
    NAMESPACES,
    PORT_NAMES,
    PORTS,
    PROTOCOLS,
    TCP_FLAGS,
    Object,
    icmp_of,
    icmp_requests,
    maybe,
    network_policies,
    present,
    wildcard_filters,
)

Situation = tuple[list[Object], list[Object]]

NODES = ("node-1", "node-2")
POD_NAMES = ("p0", "p1", "p2", "p3", "p4", "p5")
OUTSIDE = ("198.51.100.7", "203.0.113.1", "2001:db8::7", "2001:db8:1::1")


@st.composite
def situations(draw: st.DrawFn, probes: int = 40) -> Situation:
    """A cluster with its policies and filters, and probes to ask of it; the order of objects is free.

    Hypothesis draws the objects, which it can shrink; the probes come from a seed, as many draws would cost
    more time than many probes.
    """
    base = draw(topologies())
    policies = draw(_some(network_policies(), (2, 3, 4, 5)))
    filters = draw(_some(wildcard_filters(), (0, 2, 3, 4)))
    objects = draw(st.sampled_from((base + policies + filters, filters[::-1] + policies[::-1] + base[::-1])))
    dice = random.Random(draw(st.integers(0, 2**32 - 1)))
    return objects, sample_probes(base + policies + filters, probes, dice)


def _some(items: st.SearchStrategy[Object], sizes: tuple[int, ...]) -> st.SearchStrategy[list[Object]]:
    """So many objects of different names. Sizes are drawn: lists of hypothesis are mostly short."""
    return st.sampled_from(sizes).flatmap(
        lambda size: st.lists(items, min_size=size, max_size=size, unique_by=_key)
    )


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


# --- nodes, namespaces, pods ---


@cache
@st.composite
def topologies(draw: st.DrawFn) -> list[Object]:
    """Nodes, namespaces and pods. Where pods share an address, their ages differ."""
    ages = draw(st.permutations(range(len(POD_NAMES))))
    pods = [draw(pods_named(name, number, ages[number])) for number, name in enumerate(POD_NAMES)]
    nodes = [_node(name, number + 1) for number, name in enumerate(NODES)]
    return nodes + [draw(namespaces(name)) for name in NAMESPACES] + pods


def _node(name: str, number: int) -> Object:
    addresses = [
        {"type": "InternalIP", "address": f"192.168.50.1{number}"},
        {"type": "InternalIP", "address": f"fd00:192:168:50::1{number}"},
        {"type": "Hostname", "address": name},
    ]
    ranges = [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
        "status": {"addresses": addresses},
    }


@cache
@st.composite
def namespaces(draw: st.DrawFn, name: str) -> Object:
    """A namespace with the label that the API server gives to each, and perhaps a team's."""
    labels = {"kubernetes.io/metadata.name": name}
    team = draw(maybe(st.sampled_from(NAMESPACE_LABELS["team"])))
    metadata = {"name": name, "labels": labels | present(team=team)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


@st.composite
def pods_named(draw: st.DrawFn, name: str, number: int, age: int) -> Object:
    """A pod: most have addresses of their own; some are ended, pending, on the host, or took another's."""
    kind = draw(st.sampled_from(("own", "own", "own", "own", "host", "shared", "ended", "pending")))
    spec = present(
        nodeName=NODES[number % len(NODES)],
        hostNetwork=True if kind == "host" else None,
        containers=[_container("main", draw(named_ports()))],
        initContainers=draw(maybe(init_containers())),
    )
    phases = {"ended": ("Succeeded", "Failed"), "pending": ("Pending",)}.get(kind, ("Running",))
    addresses = [] if kind == "pending" else draw(addresses_of_kind(kind, number))
    metadata = {
        "namespace": draw(st.sampled_from(CROWDED)),
        "name": name,
        "labels": draw(labels()),
        "creationTimestamp": f"2026-01-01T00:00:0{age}Z",
    }
    status = {
        "phase": draw(st.sampled_from(phases)),
        "podIPs": [{"ip": address} for address in addresses],
        **draw(st.sampled_from(_reports(number % len(NODES) + 1))),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def _reports(node: int) -> list[Object]:
    """What a pod may report of its node: addresses that the Node object states, others, or none."""
    stated, other = f"192.168.50.1{node}", f"203.0.113.1{node}"
    return [
        {},
        {"hostIP": other},
        {"hostIP": stated, "hostIPs": [{"ip": stated}, {"ip": f"fd00:203::{node}"}]},
    ]


@cache
def addresses_of_kind(kind: str, number: int) -> st.SearchStrategy[list[str]]:
    """Both families in either order, or one of them. A `shared` address is that of the node's first pod."""
    node = number % len(NODES) + 1
    host = node if kind == "shared" else number + 1
    both = [f"10.244.{node}.{host}", f"fd00:10:244:{node}::{host}"]
    if kind == "host":
        both = [f"192.168.50.1{node}", f"fd00:192:168:50::1{node}"]
    return st.sampled_from((both, both, both[::-1], both[:1], both[1:]))


@cache
def labels() -> st.SearchStrategy[dict[str, str]]:
    """None, one or both of the labels."""
    return st.fixed_dictionaries(
        {}, optional={key: st.sampled_from(values) for key, values in LABELS.items()}
    )


@cache
def named_ports() -> st.SearchStrategy[list[Object]]:
    """Ports of a container; a name may stand for one number in each protocol."""
    port = st.fixed_dictionaries(
        {"name": st.sampled_from(PORT_NAMES), "containerPort": st.sampled_from(PORTS)},
        optional={"protocol": st.sampled_from(("TCP", "TCP", "UDP"))},
    )
    return st.lists(port, min_size=1, max_size=4, unique_by=lambda p: (p["name"], p.get("protocol", "TCP")))


@cache
@st.composite
def init_containers(draw: st.DrawFn) -> list[Object]:
    """A sidecar and an ordinary init container, whose ports have names that no other container uses."""
    side = _container("side", [{"name": "side", "containerPort": draw(st.sampled_from(PORTS))}])
    once = _container("once", [{"name": "once", "containerPort": draw(st.sampled_from(PORTS))}])
    return [side | {"restartPolicy": "Always"}, once]


def _container(name: str, ports: list[Object]) -> Object:
    return {"name": name, "image": "example.org/serve", "ports": ports}


# --- probes ---


def sample_probes(objects: list[Object], count: int, dice: random.Random) -> list[Object]:
    """Probes about what the objects mention: their pods, their ports and the numbers beside them."""
    ports = sorted({1, 65535, *(near for _, port in _mentioned(objects, "TCP") for near in _beside(port))})
    pairs = sorted(_mentioned(objects, "TCP")) or [("TCP", 80)]
    return [_probe(objects, _Ports(ports, pairs), dice) for _ in range(count)]


class _Ports(NamedTuple):
    """Numbers worth a try with any protocol, and pairs of protocol and number that an object names."""

    numbers: list[int]
    pairs: list[tuple[str, int]]


def _probe(objects: list[Object], ports: _Ports, dice: random.Random) -> Object:
    family = dice.choice((4, 6))
    pods, others = _of_family(family, _pod_addresses(objects)), _of_family(family, _other_addresses(objects))
    ends = (*pods, *pods, *pods, *others)
    traffic = dice.choices((_ports, _ports_and_flags, _icmp, _portless), weights=(8, 2, 2, 1))[0]
    source = dice.choice(ends)
    destination = dice.choice([end for end in ends if end != source or dice.random() < 0.1] or ends)
    return {"from": source, "to": destination} | traffic(family, ports, dice)


def _ports(family: int, ports: _Ports, dice: random.Random) -> Object:
    protocol, port = dice.choice(ports.pairs)
    if dice.random() < 0.4:
        protocol, port = dice.choice(PROTOCOLS), dice.choice(ports.numbers)
    source = {"sourcePort": dice.choice(ports.numbers)} if dice.random() < 0.4 else {}
    return {"protocol": protocol, "port": port} | source


def _ports_and_flags(family: int, ports: _Ports, dice: random.Random) -> Object:
    flags = [flag for flag in TCP_FLAGS if dice.random() < 0.4]
    return _ports(family, ports, dice) | {"protocol": "TCP", "tcpFlags": flags}


def _icmp(family: int, ports: _Ports, dice: random.Random) -> Object:
    told = {"type": dice.choice(icmp_requests(family)), "code": dice.choice((0, 1))}
    for name in list(told):
        if dice.random() < 0.2:
            del told[name]
    return {"protocol": icmp_of(family)} | ({"icmp": told} if told else {})


def _portless(family: int, ports: _Ports, dice: random.Random) -> Object:
    return {"protocol": dice.choice((0, 47))}


def _mentioned(item: Any, protocol: str) -> set[tuple[str, int]]:
    """Every port number in the objects, with the protocol that is stated at it or above it."""
    if isinstance(item, list):
        return {pair for part in item for pair in _mentioned(part, protocol)}
    if not isinstance(item, dict):
        return set()
    protocol = item["protocol"] if item.get("protocol") in PROTOCOLS else protocol
    numbers = [item.get(name) for name in ("port", "endPort", "containerPort")]
    own = {(protocol, number) for number in numbers if isinstance(number, int)}
    return own.union(*(_mentioned(part, protocol) for part in item.values()))


def _beside(port: int) -> list[int]:
    return [number for number in (port - 1, port, port + 1) if 1 <= number <= 65535]


def _of_family(family: int, addresses: list[str]) -> list[str]:
    return sorted({address for address in addresses if ipaddress.ip_address(address).version == family})


def _pod_addresses(objects: list[Object]) -> list[str]:
    return [entry["ip"] for o in objects if o["kind"] == "Pod" for entry in o["status"]["podIPs"]]


def _other_addresses(objects: list[Object]) -> list[str]:
    entries = [entry for o in objects if o["kind"] == "Node" for entry in o["status"]["addresses"]]
    reported = [str(address) for o in objects if o["kind"] == "Pod" for address in host_addresses_of(o)]
    return [*OUTSIDE, *(entry["address"] for entry in entries if entry["type"] != "Hostname"), *reported]
