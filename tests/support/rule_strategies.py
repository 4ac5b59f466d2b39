# SPDX-License-Identifier: Apache-2.0
"""Random NetworkPolicies and WildcardFilters, and the alphabets that random clusters share with them."""

from __future__ import annotations

import ipaddress
from functools import cache
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Mapping

Object = dict[str, Any]

NAMESPACES = ("red", "blue")
CROWDED = ("red", "red", "blue")
"""Where pods and policies are: most in one namespace, so that they meet."""
POLICY_NAMES = ("a", "b", "c", "d")
FILTER_NAMES = ("f-1", "f-2", "f-9", "f-10")
VOLATILE_LABEL = "pod-template-hash"
LABELS = {"app": ("web", "db"), "tier": ("front", "back"), VOLATILE_LABEL: ("h1", "h2")}
NAMESPACE_LABELS = {"team": ("one", "two"), "kubernetes.io/metadata.name": NAMESPACES}
PORTS = (80, 81, 79, 1, 65535)
PORT_NAMES = ("http", "dns")
PROTOCOLS = ("TCP", "UDP", "SCTP")
TCP_FLAGS = ("SYN", "ACK", "FIN", "RST")
BLOCKS = {
    "0.0.0.0/0": ("10.244.0.0/16", "10.244.1.0/24", "198.51.100.7/32", "0.0.0.0/1"),
    "10.244.0.0/16": ("10.244.1.0/24", "10.244.1.3/32", "10.244.2.0/25", "10.244.0.0/17"),
    "10.244.1.0/24": ("10.244.1.0/25", "10.244.1.128/25", "10.244.1.2/31", "10.244.1.3/32"),
    "10.244.2.4/32": (),
    "198.51.100.0/24": ("198.51.100.0/25", "198.51.100.128/25", "198.51.100.7/32"),
    "::/0": ("fd00:10:244::/48", "fd00:10:244:1::3/128", "2001:db8::/33"),
    "fd00:10:244::/48": ("fd00:10:244:1::/64", "fd00:10:244:1::2/127"),
    "fd00:10:244:2::4/128": (),
    "2001:db8::/32": ("2001:db8::/48", "2001:db8:1::1/128"),
}
"""Prefixes, each with the strictly smaller ones that an except may name."""


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value, or None: the field is then left out."""
    return st.none() | strategy


def weighted(*choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of the strategies, by weight; `one_of` forgets that one was named more than once."""
    strategies = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.sampled_from(strategies).flatmap(lambda strategy: strategy)


def present(**fields: Any) -> Object:
    return {name: value for name, value in fields.items() if value is not None}


# --- what both kinds of rules use ---


def selectors(alphabet: Mapping[str, tuple[str, ...]]) -> st.SearchStrategy[Object]:
    """Label selectors over an alphabet, with all four operators; often empty, seldom by VOLATILE_LABEL."""
    keys = st.sampled_from(
        [key for key in sorted(alphabet) for _ in range(1 if key == VOLATILE_LABEL else 3)]
    )
    values = st.sampled_from(sorted({value for all_values in alphabet.values() for value in all_values}))
    membership = st.fixed_dictionaries(
        {
            "key": keys,
            "operator": st.sampled_from(("In", "NotIn")),
            "values": st.lists(values, min_size=1, max_size=2, unique=True),
        }
    )
    presence = st.fixed_dictionaries({"key": keys, "operator": st.sampled_from(("Exists", "DoesNotExist"))})
    one_label = keys.flatmap(lambda key: st.fixed_dictionaries({key: st.sampled_from(alphabet[key])}))
    by_label = one_label.map(lambda label: {"matchLabels": label})
    by_expression = (membership | presence).map(lambda requirement: {"matchExpressions": [requirement]})
    by_several = st.fixed_dictionaries(
        {"matchExpressions": st.lists(membership | presence, max_size=2)}, optional={"matchLabels": one_label}
    )
    return weighted((3, st.just({})), (2, by_label), (3, by_expression), (1, by_several))


@cache
def pod_selectors() -> st.SearchStrategy[Object]:
    """Selectors of pods."""
    return selectors(LABELS)


@cache
def namespace_selectors() -> st.SearchStrategy[Object]:
    """Selectors of namespaces, by team or by the name's label."""
    return selectors(NAMESPACE_LABELS)


@cache
@st.composite
def blocks(draw: st.DrawFn, families: tuple[int, ...] = (4, 6), max_excepts: int = 2) -> Object:
    """`{cidr, except}`, one family, every except strictly inside."""
    cidr = draw(st.sampled_from([c for c in BLOCKS if ipaddress.ip_network(c).version in families]))
    if not BLOCKS[cidr]:
        return {"cidr": cidr}
    excepts = draw(st.lists(st.sampled_from(BLOCKS[cidr]), max_size=max_excepts, unique=True))
    return {"cidr": cidr, "except": excepts} if excepts else {"cidr": cidr}


@cache
def port_ranges() -> st.SearchStrategy[Object]:
    """`{port, endPort}`, inclusive; endPort is often absent."""
    bounds = [(first, last) for first in PORTS for last in PORTS if first <= last]
    ranges = st.sampled_from(bounds).map(lambda both: {"port": both[0], "endPort": both[1]})
    return st.sampled_from(PORTS).map(lambda port: {"port": port}) | ranges


# --- NetworkPolicy ---


@cache
@st.composite
def network_policies(draw: st.DrawFn) -> Object:
    """One policy; lists are absent, empty or full, and policyTypes stated or left to their default."""
    types: tuple[list[str] | None, ...] = (
        ["Ingress"],
        ["Egress"],
        ["Ingress", "Egress"],
        ["Ingress", "Egress"],
        [],
        None,
    )
    spec = {
        "podSelector": draw(pod_selectors()),
        **present(policyTypes=draw(st.sampled_from(types))),
        **draw(_listed("ingress", policy_rules("from"), 3)),
        **draw(_listed("egress", policy_rules("to"), 3)),
    }
    metadata = {"namespace": draw(st.sampled_from(CROWDED)), "name": draw(st.sampled_from(POLICY_NAMES))}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata,
        "spec": spec,
    }


@cache
def policy_rules(peers: str) -> st.SearchStrategy[Object]:
    """One ingress (`from`) or egress (`to`) rule. Most state both lists: a rule for all hides the others."""
    return st.tuples(_listed(peers, policy_peers(), 2), _listed("ports", policy_ports(), 2)).map(
        lambda both: both[0] | both[1]
    )


@cache
def _listed(name: str, items: st.SearchStrategy[Object], most: int) -> st.SearchStrategy[Object]:
    full = st.lists(items, min_size=1, max_size=most).map(lambda listed: {name: listed})
    return weighted((1, st.just({})), (1, st.just({name: []})), (6, full))


@cache
def policy_peers() -> st.SearchStrategy[Object]:
    """A selector of pods, of namespaces, of both, or a block of addresses."""
    pods, spaces = pod_selectors(), namespace_selectors()
    by_pods = st.fixed_dictionaries({"podSelector": pods})
    by_namespaces = st.fixed_dictionaries({"namespaceSelector": spaces})
    by_both = st.fixed_dictionaries({"podSelector": pods, "namespaceSelector": spaces})
    by_address = st.fixed_dictionaries({"ipBlock": blocks()})
    return weighted((3, by_pods), (1, by_namespaces), (3, by_both), (3, by_address))


@cache
def policy_ports() -> st.SearchStrategy[Object]:
    """All ports of a protocol, a number, a range or a name."""
    names = st.sampled_from(("http", "http", "dns", "side", "once")).map(lambda name: {"port": name})
    ports = weighted((1, st.just({})), (3, port_ranges()), (3, names))
    protocols = st.sampled_from(({}, {}, {"protocol": "TCP"}, {"protocol": "UDP"}, {"protocol": "SCTP"}))
    return st.tuples(protocols, ports).map(lambda both: both[0] | both[1])


# --- WildcardFilter ---


@cache
@st.composite
def wildcard_filters(draw: st.DrawFn) -> Object:
    """One filter for pods, or, seldom, for nodes: those change nothing that a probe can see."""
    pods = st.fixed_dictionaries(
        {}, optional={"namespaceSelector": namespace_selectors(), "podSelector": pod_selectors()}
    ).map(lambda target: {"pods": target})
    nodes = st.just({"nodes": {"interfaces": {"primary": True}}})
    rules = draw(st.lists(filter_rules(), min_size=1, max_size=3))
    spec = present(
        priority=draw(maybe(st.sampled_from((0, 10, 1000, 999_999)))),
        mode=draw(st.sampled_from((None, None, "Enforce", "Enforce", "Audit", "Off"))),
        direction=draw(st.sampled_from(("Ingress", "Egress"))),
        target=draw(weighted((9, pods), (1, nodes))),
        rules=[{"name": f"r{place}", **rule} for place, rule in enumerate(rules)],
    )
    return {
        "apiVersion": "wildcard-operator.io/v1alpha1",
        "kind": "WildcardFilter",
        "metadata": {"name": draw(st.sampled_from(FILTER_NAMES))},
        "spec": spec,
    }


@cache
@st.composite
def filter_rules(draw: st.DrawFn) -> Object:
    """One rule: an action, the addresses of one family, and a transport that fits that family."""
    family = draw(st.sampled_from((4, 6)))
    action = {"action": draw(st.sampled_from(("Allow", "Drop", "Pass")))}
    sides: Object = {}
    for side in draw(st.sampled_from(((), (), ("sources",), ("destinations",), ("sources", "destinations")))):
        sides[side] = draw(st.lists(blocks((family,)), max_size=2))
    rule: Object = action | draw(transports(family)) | sides
    return rule


@cache
def transports(family: int) -> st.SearchStrategy[Object]:
    """Protocol, ports, ICMP or TCP flags. Flags stand with Drop only, so they bring their action."""
    ranges = st.lists(port_ranges(), max_size=2)
    with_ports = st.fixed_dictionaries(
        {},
        optional={
            "protocol": st.sampled_from((*PROTOCOLS, 6, 17)),
            "sourcePorts": ranges,
            "destinationPorts": ranges,
        },
    )
    icmp = st.fixed_dictionaries(
        {}, optional={"type": st.sampled_from(icmp_requests(family)), "code": icmp_codes()}
    )
    with_icmp = st.fixed_dictionaries(
        {"icmp": icmp.filter(bool)}, optional={"protocol": st.sampled_from((icmp_of(family),))}
    )
    with_flags = st.fixed_dictionaries(
        {"action": st.just("Drop"), "tcpFlags": flag_matches()}, optional={"protocol": st.just("TCP")}
    )
    bare = st.sampled_from(({}, {}, {"protocol": 47}, {"protocol": 0}, {"protocol": icmp_of(family)}))
    return weighted((3, bare), (3, with_ports), (1, with_icmp), (2, with_flags))


@cache
@st.composite
def flag_matches(draw: st.DrawFn) -> Object:
    """`{value, mask}`: any part of the mask must be set, perhaps none; or a value that is its own mask."""
    mask = draw(st.lists(st.sampled_from(TCP_FLAGS), min_size=1, max_size=3, unique=True))
    if draw(st.booleans()):
        return {"value": mask}
    return {"value": draw(st.lists(st.sampled_from(mask), unique=True)), "mask": mask}


def icmp_of(family: int) -> str:
    return {4: "ICMP", 6: "ICMPv6"}[family]


def icmp_requests(family: int) -> tuple[int, ...]:
    """Types that open an exchange; errors, replies and neighbour discovery are judged elsewhere."""
    return {4: (8, 13), 6: (128,)}[family]


@cache
def icmp_codes() -> st.SearchStrategy[int]:
    return st.sampled_from((0, 1))
