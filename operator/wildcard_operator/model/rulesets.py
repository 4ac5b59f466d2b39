# SPDX-License-Identifier: Apache-2.0
"""The normal form of policies, as the operator publishes it and agents read it: `RuleSet`.

One RuleSet per NetworkPolicy or WildcardFilter. Selectors are canonical, ports ranges or names, defaults
explicit, and peers x traffic stays grouped: an agent multiplies it out. `to_dict` gives the `spec` of the
custom resource:

    formatVersion: 1
    source: {kind: NetworkPolicy, namespace: shop, name: web}   # namespace "" for a WildcardFilter
    generation: 3                                               # of the source
    mode: Enforce                                               # Enforce | Audit
    priority: 1000000
    subject:                                                    # exactly one of the two
      pods: {namespaces: SELECTION, selector: [REQUIREMENT]}
      nodes: {selector: [REQUIREMENT], interfaces: {names: [], patterns: [], primary: true}}
    isolates: [Ingress]                                         # default deny for these; [] for filters
    rules:
    - id: ingress[0]                                            # stable; with `source` the counter's name
      place: 0                                                  # among the rules of one source
      direction: Ingress
      action: Allow                                             # open union
      peers: [{any: {}}, {pods: {namespaces: SELECTION, selector: [REQUIREMENT]}},
              {block: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]   # open union; [] matches nobody
      sources: [{cidr: ..., except: [...]}]                     # absent: any; [] matches nothing
      destinations: []                                          # the same
      traffic:                                                  # absent: any; [] matches nothing; open union
      - {protocol: 6, sourcePorts: [[1024, 65535]], destinationPorts: [[80, 80]], names: [http]}
      - {protocol: 1, icmp: {type: 8, code: 0}}
      - {protocol: 6, tcpFlags: {value: 2, mask: 18}}

    SELECTION: {name: shop} or {selector: [REQUIREMENT]}        # of namespaces
    REQUIREMENT: {key: app, operator: In, values: [web]}

**Open unions fail closed.** `ruleset_from_dict` never raises. An unknown format version, or a spec that
can't be read, becomes a RuleSet that isolates: every pod of the namespace (of the cluster, for a filter)
both ways, with no rule. A rule with an unknown action drops. An unknown peer, and traffic with a field that
isn't known, match nothing in a rule that allows or passes, and everything in one that drops. `problems`
says what was not understood. A filter on nodes that can't be read is left out: isolation is for pods, and
cutting a node off would take every pod on it along.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wildcard_operator.model.label_selectors import EVERYTHING, Selector

if TYPE_CHECKING:
    from wildcard_operator.model.entries import Problem
    from wildcard_operator.model.errors import ObjectRef
    from wildcard_operator.model.net import Action, Direction, PortRange, Prefix

FORMAT_VERSION: Final = 1
NETWORK_POLICY: Final = "NetworkPolicy"
WILDCARD_FILTER: Final = "WildcardFilter"


class Mode(enum.StrEnum):
    """Of a filter; a filter that is Off has no RuleSet."""

    ENFORCE = "Enforce"
    AUDIT = "Audit"


@dataclass(frozen=True, slots=True, order=True)
class Namespaces:
    """A selection of namespaces: one by its name, or by labels where `name` is ""."""

    name: str = ""
    selector: Selector = EVERYTHING

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a RuleSet."""
        return {"name": self.name} if self.name else {"selector": self.selector.to_dict()}


@dataclass(frozen=True, slots=True, order=True)
class Pods:
    """A selection of pods: those of the namespaces whose labels the selector matches."""

    namespaces: Namespaces = Namespaces()
    selector: Selector = EVERYTHING

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a RuleSet."""
        return {"namespaces": self.namespaces.to_dict(), "selector": self.selector.to_dict()}


@dataclass(frozen=True, slots=True)
class Block:
    """The addresses of a prefix less those of the excepted ones."""

    cidr: Prefix
    excepts: tuple[Prefix, ...] = ()

    def prefixes(self) -> tuple[Prefix, ...]:
        """The fewest prefixes that say the same; () where all is excepted."""
        return self.cidr.without(self.excepts)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a RuleSet."""
        return {"cidr": self.cidr.text, "except": [hole.text for hole in self.excepts]}


@dataclass(frozen=True, slots=True)
class AnyPeer:
    """Everybody: pods and all other addresses."""


Peer = AnyPeer | Pods | Block


@dataclass(frozen=True, slots=True)
class Interfaces:
    """A selection of a node's interfaces; an interface that one of the three picks is in.

    Attributes:
        patterns: Shell patterns with `*`, `?` and `[...]`.
        primary: The interfaces that carry the default route.
    """

    names: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    primary: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a RuleSet."""
        return {"names": list(self.names), "patterns": list(self.patterns), "primary": self.primary}


@dataclass(frozen=True, slots=True)
class Nodes:
    """A selection of nodes and of their interfaces."""

    selector: Selector
    interfaces: Interfaces

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a RuleSet."""
        return {"selector": self.selector.to_dict(), "interfaces": self.interfaces.to_dict()}


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a packet has to be, beside its addresses. All that is given must hold; empty is any.

    Attributes:
        names: Named ports of the destination pod, beside the ranges of `destination_ports`.
        flags: (value, mask) of the TCP flags.
    """

    protocol: int | None = None
    source_ports: tuple[PortRange, ...] = ()
    destination_ports: tuple[PortRange, ...] = ()
    names: tuple[str, ...] = ()
    icmp_type: int | None = None
    icmp_code: int | None = None
    flags: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a RuleSet."""
        spec: dict[str, Any] = {}
        if self.protocol is not None:
            spec["protocol"] = self.protocol
        if self.source_ports:
            spec["sourcePorts"] = [list(ports) for ports in self.source_ports]
        if self.destination_ports:
            spec["destinationPorts"] = [list(ports) for ports in self.destination_ports]
        if self.names:
            spec["names"] = list(self.names)
        if self.icmp_type is not None or self.icmp_code is not None:
            given = {"type": self.icmp_type, "code": self.icmp_code}
            spec["icmp"] = {key: number for key, number in given.items() if number is not None}
        if self.flags is not None:
            spec["tcpFlags"] = {"value": self.flags[0], "mask": self.flags[1]}
        return spec


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what it matches (peers x traffic, within sources and destinations) and does.

    None means any, () nothing. Only peers may select pods; a filter's rule has `AnyPeer` and prefixes.
    """

    id: str
    place: int
    direction: Direction
    action: Action
    peers: tuple[Peer, ...] = (AnyPeer(),)
    sources: tuple[Block, ...] | None = None
    destinations: tuple[Block, ...] | None = None
    traffic: tuple[Traffic, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a RuleSet."""
        spec: dict[str, Any] = {
            "id": self.id,
            "place": self.place,
            "direction": self.direction.value,
            "action": self.action.value,
            "peers": [_peer_to_dict(peer) for peer in self.peers],
        }
        if self.sources is not None:
            spec["sources"] = [block.to_dict() for block in self.sources]
        if self.destinations is not None:
            spec["destinations"] = [block.to_dict() for block in self.destinations]
        if self.traffic is not None:
            spec["traffic"] = [traffic.to_dict() for traffic in self.traffic]
        return spec


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One policy or filter in its normal form.

    Attributes:
        source: The object that it speaks for.
        isolates: Directions in which the subject's pods allow only what a policy allows.
        problems: What is not taken as written, or was not understood. Not part of the custom resource.
    """

    source: ObjectRef
    subject: Pods | Nodes
    priority: int
    rules: tuple[Rule, ...] = ()
    isolates: tuple[Direction, ...] = ()
    mode: Mode = Mode.ENFORCE
    generation: int = 0
    problems: tuple[Problem, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The `spec` of the custom resource."""
        kind = "nodes" if isinstance(self.subject, Nodes) else "pods"
        source = self.source
        return {
            "formatVersion": FORMAT_VERSION,
            "source": {"kind": source.kind, "namespace": source.namespace, "name": source.name},
            "generation": self.generation,
            "mode": self.mode.value,
            "priority": self.priority,
            "subject": {kind: self.subject.to_dict()},
            "isolates": [direction.value for direction in self.isolates],
            "rules": [rule.to_dict() for rule in self.rules],
        }


def _peer_to_dict(peer: Peer) -> dict[str, Any]:
    match peer:
        case AnyPeer():
            return {"any": {}}
        case Pods():
            return {"pods": peer.to_dict()}
        case Block():
            return {"block": peer.to_dict()}


def ruleset_name(source: ObjectRef) -> str:
    """The name of the custom resource: kind and a 128-bit hash of namespace and name."""
    return f"{source.kind.lower()}-{digest(source.namespace, source.name)}"


def digest(*parts: str) -> str:
    """128 bits in hex over the parts; no two lists of parts run into one text, as names hold no NUL."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
