# SPDX-License-Identifier: Apache-2.0
"""What can be set for a node, and the failsafe ports that stand above every filter on its interfaces."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from wildcard_operator.model.errors import ObjectRef
from wildcard_operator.model.label_selectors import EVERYTHING
from wildcard_operator.model.net import TCP, TCP_FLAGS, UDP, Action, Address, Direction, PortRange, Prefix
from wildcard_operator.model.rulesets import Block, Interfaces, Nodes, Rule, RuleSet, Traffic

FAILSAFE: Final = "Failsafe"


class UnknownPodsMode(enum.StrEnum):
    """What becomes of addresses of the node's pod ranges that no pod has claimed yet.

    AUTO drops while a pod of this node which some policy selects has no address in the API.
    """

    AUTO = "Auto"
    DROP = "Drop"
    ALLOW = "Allow"


@dataclass(frozen=True, slots=True)
class FailsafePort:
    """Traffic that no filter on a host's interfaces can cut.

    Attributes:
        direction: Of the connection: Ingress for servers on this node, Egress for those that it needs.
        peers: Only with these; () is everybody.
        source: The sender's port, where the protocol fixes it (DHCP); None is any.
    """

    name: str
    direction: Direction
    protocol: int
    ports: PortRange
    peers: tuple[Prefix, ...] = ()
    source: int | None = None


def _server(name: str, first: int, last: int | None = None) -> tuple[FailsafePort, FailsafePort]:
    """A server that runs on this node or on another one that this node talks to."""
    ports = PortRange(first, last or first)
    return (
        FailsafePort(f"{name}-in", Direction.INGRESS, TCP, ports),
        FailsafePort(f"{name}-out", Direction.EGRESS, TCP, ports),
    )


DEFAULT_FAILSAFE: Final = (
    FailsafePort("ssh", Direction.INGRESS, TCP, PortRange(22, 22)),
    *_server("api-server", 6443),
    *_server("etcd", 2379, 2380),
    *_server("kubelet", 10250),
    FailsafePort("dhcp", Direction.EGRESS, UDP, PortRange(67, 67), source=68),
    FailsafePort("dhcpv6", Direction.EGRESS, UDP, PortRange(547, 547), source=546),
)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Settings of one node.

    Attributes:
        pod_ranges: Of the node's pods, beside those that its Node object names.
        resolvers: The node's own name servers: their replies are failsafe, nobody else's.
    """

    unknown_pods: UnknownPodsMode = UnknownPodsMode.AUTO
    pod_ranges: tuple[Prefix, ...] = ()
    failsafe: tuple[FailsafePort, ...] = DEFAULT_FAILSAFE
    resolvers: tuple[Address, ...] = ()


def failsafe_rules(config: NodeConfig) -> RuleSet:
    """The failsafe ports as a RuleSet. Filters on hosts are stateless, so both directions of a connection
    are in it.

    What answers a TCP connection carries ACK: a stranger can't open one from a failsafe port.
    """
    ports = [*config.failsafe, *_resolver_ports(config.resolvers)]
    rules = [rule for port in ports for rule in (_opening(port), _answering(port))]
    return RuleSet(
        source=ObjectRef(FAILSAFE, "", ""),
        subject=Nodes(EVERYTHING, Interfaces()),
        priority=0,
        rules=tuple(
            Rule(r.id, place, r.direction, r.action, r.peers, r.sources, r.destinations, r.traffic)
            for place, r in enumerate(rules)
        ),
    )


def _resolver_ports(resolvers: tuple[Address, ...]) -> list[FailsafePort]:
    peers = tuple(address.prefix for address in resolvers)
    if not peers:
        return []
    return [
        FailsafePort(f"dns-{name}", Direction.EGRESS, protocol, PortRange(53, 53), peers)
        for name, protocol in (("udp", UDP), ("tcp", TCP))
    ]


def _opening(port: FailsafePort) -> Rule:
    """From the client: the peer is the sender where this node is the server."""
    sources = () if port.source is None else (PortRange(port.source, port.source),)
    return _rule(port, port.direction, Traffic(port.protocol, sources, (port.ports,)), "")


def _answering(port: FailsafePort) -> Rule:
    back = Direction.EGRESS if port.direction is Direction.INGRESS else Direction.INGRESS
    destinations = () if port.source is None else (PortRange(port.source, port.source),)
    flags = (TCP_FLAGS["ACK"], TCP_FLAGS["ACK"]) if port.protocol == TCP else None
    return _rule(port, back, Traffic(port.protocol, (port.ports,), destinations, flags=flags), "-replies")


def _rule(port: FailsafePort, direction: Direction, traffic: Traffic, suffix: str) -> Rule:
    blocks = tuple(Block(prefix) for prefix in port.peers) or None
    ingress = direction is Direction.INGRESS
    return Rule(
        id=port.name + suffix,
        place=0,
        direction=direction,
        action=Action.ALLOW,
        sources=blocks if ingress else None,
        destinations=None if ingress else blocks,
        traffic=(traffic,),
    )
