# SPDX-License-Identifier: Apache-2.0
"""Random clusters, policies, filters and probes for property tests, as plain dicts.

The alphabets are small on purpose: two namespaces, few labels, ports and prefixes, so that selectors
overlap, ranges touch and excepts cut. All that is generated is valid for the API server, and nothing is
generated whose meaning the documents leave open (two pods of one address and one age, errors of ICMP).
Strategies are cached: hypothesis spends more on building one than on drawing from it.
"""

from __future__ import annotations

import ipaddress
from functools import cache

from hypothesis import strategies as st

from support.rule_strategies import (
    LABELS,
    NAMESPACE_LABELS,
    NAMESPACES,
    PORT_NAMES,
    PORTS,
    PROTOCOLS,
    TCP_FLAGS,
    Object,
    icmp_codes,
    icmp_of,
    icmp_requests,
    maybe,
    network_policies,
    present,
    weighted,
    wildcard_filters,
)

Situation = tuple[list[Object], list[Object]]

NODES = ("node-1", "node-2")
POD_NAMES = ("p0", "p1", "p2", "p3", "p4", "p5")
OUTSIDE = ("198.51.100.7", "203.0.113.1", "2001:db8::7", "2001:db8:1::1")


@st.composite
def situations(draw: st.DrawFn, most_probes: int = 8) -> Situation:
    """A cluster with its policies and filters, and probes to ask of it; the order of objects is free."""
    base = draw(topologies())
    policies = draw(_some(network_policies(), (0, 3, 4, 5)))
    filters = draw(_some(wildcard_filters(), (0, 2, 3, 4)))
    objects = draw(st.sampled_from((base + policies + filters, filters[::-1] + policies[::-1] + base[::-1])))
    return objects, draw(st.lists(probes(base), min_size=most_probes // 2, max_size=most_probes))


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
        "namespace": draw(st.sampled_from(NAMESPACES)),
        "name": name,
        "labels": draw(labels()),
        "creationTimestamp": f"2026-01-01T00:00:0{age}Z",
    }
    status = {"phase": draw(st.sampled_from(phases)), "podIPs": [{"ip": address} for address in addresses]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


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
        optional={"protocol": st.sampled_from(PROTOCOLS)},
    )
    return st.lists(port, max_size=3, unique_by=lambda p: (p["name"], p.get("protocol", "TCP")))


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


@st.composite
def probes(draw: st.DrawFn, objects: list[Object]) -> Object:
    """One probe between two addresses of one family: pods', nodes', and some outside of the cluster."""
    family = draw(st.sampled_from((4, 6)))
    pods, others = (
        _of_family(family, known) for known in (_pod_addresses(objects), _other_addresses(objects))
    )
    ends = (*pods, *pods, *others)
    source = draw(st.sampled_from(ends))
    destination = draw(st.sampled_from((*(end for end in ends if end != source), source)))
    return {"from": source, "to": destination} | draw(traffic(family))


def _of_family(family: int, addresses: list[str]) -> list[str]:
    return sorted({address for address in addresses if ipaddress.ip_address(address).version == family})


def _pod_addresses(objects: list[Object]) -> list[str]:
    return [entry["ip"] for o in objects if o["kind"] == "Pod" for entry in o["status"]["podIPs"]]


def _other_addresses(objects: list[Object]) -> list[str]:
    entries = [entry for o in objects if o["kind"] == "Node" for entry in o["status"]["addresses"]]
    return [*OUTSIDE, *(entry["address"] for entry in entries if entry["type"] != "Hostname")]


@cache
def traffic(family: int) -> st.SearchStrategy[Object]:
    """Protocol and port, with all, some or none of what a rule may ask for."""
    ports = st.sampled_from(PORTS)
    transport = st.fixed_dictionaries(
        {"protocol": st.sampled_from(PROTOCOLS), "port": ports}, optional={"sourcePort": ports}
    )
    flags = st.lists(st.sampled_from(TCP_FLAGS), max_size=3, unique=True)
    tcp = st.fixed_dictionaries({"protocol": st.just("TCP"), "port": ports, "tcpFlags": flags})
    icmp = st.fixed_dictionaries(
        {"protocol": st.just(icmp_of(family))},
        optional={
            "icmp": st.fixed_dictionaries(
                {"type": st.sampled_from(icmp_requests(family))}, optional={"code": icmp_codes()}
            )
        },
    )
    other = st.sampled_from((0, 47)).map(lambda number: {"protocol": number})
    return weighted((6, transport), (1, tcp), (2, icmp), (1, other))
