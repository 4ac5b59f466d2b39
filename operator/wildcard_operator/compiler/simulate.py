# SPDX-License-Identifier: Apache-2.0
"""Pure verdicts: what the programs in the kernels of a cluster's nodes would say of a connection.

Each end of a probe is judged on the node of its pod, with the tables that this node gets: what the
simulator answers is what is enforced. A node's tables are made when a probe first needs them. Filters on
nodes are left out, since no interface is known here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wildcard_operator.compiler.classifier import Classifier, Packet, Verdict
from wildcard_operator.compiler.cluster import CLUSTER_WIDE
from wildcard_operator.compiler.events import NodeSet, PodSet, RuleSetSet
from wildcard_operator.compiler.manifests import Manifests, of_node
from wildcard_operator.compiler.node import NodeCompiler
from wildcard_operator.model.entries import Entry, NodeTables, RuleKind
from wildcard_operator.model.errors import ObjectRef, Refusal, RefusedError
from wildcard_operator.model.fields import Value
from wildcard_operator.model.net import (
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    PROTOCOL_NUMBERS,
    TCP,
    TCP_FLAGS,
    Address,
    Direction,
    parse_address,
)
from wildcard_operator.model.objects import parse_host_addresses
from wildcard_operator.model.rulesets import NETWORK_POLICY, Nodes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wildcard_operator.compiler.scopes import ScopeView
    from wildcard_operator.model.objects import Pod

NOT_ISOLATED: Final = "not isolated"
OWN_NODE: Final = "own node"
SELF: Final = "self"
PROBE: Final = "Probe"

_FIELDS: Final = {"from", "to", "protocol", "port", "sourcePort", "icmp", "tcpFlags"}


@dataclass(frozen=True, slots=True)
class Decider:
    """The rule that decided one end; `namespace` is None for a filter, `rule` a filter rule's name or its
    place."""

    kind: str
    namespace: str | None
    name: str
    rule: str

    def to_dict(self) -> dict[str, Any]:
        """As it stands in an answer."""
        return {"kind": self.kind, "namespace": self.namespace, "name": self.name, "rule": self.rule}


@dataclass(frozen=True, slots=True)
class End:
    """One end's answer: `by` a rule, with the entry that it was, or None with a `reason` why it allows."""

    allowed: bool
    by: Decider | None = None
    reason: str | None = None
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Both ends must agree. `depends_on`: what the probe leaves open and a rule on the way asked for."""

    probe: dict[str, Any]
    egress: End
    ingress: End
    depends_on: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the connection comes about."""
        return self.egress.allowed and self.ingress.allowed

    def to_dict(self) -> dict[str, Any]:
        """The probe's fields and the answer, for programs."""
        answer: dict[str, Any] = {**self.probe, "allowed": self.allowed}
        for name, end in (("egress", self.egress), ("ingress", self.ingress)):
            answer[name] = None if end.by is None else end.by.to_dict()
            if end.by is None:
                answer[f"{name}Reason"] = end.reason
            if end.entry is not None:
                answer[f"{name}Entry"] = end.entry._asdict()
        if self.depends_on:
            answer["dependsOn"] = list(self.depends_on)
        return answer


@dataclass(frozen=True, slots=True)
class _Node:
    tables: NodeTables
    classifier: Classifier
    scopes: dict[int, ScopeView]
    addresses: set[Address]


class Simulator:
    """Answers probes about the objects of a set of files.

    Attributes:
        refusals: Objects that are not taken as they are.
        conditions: What is odd about policies and filters.
        passed_over: Objects that policies don't speak of, by kind.
        node_filters: Filters on nodes: they take no part in the answers.
    """

    def __init__(self, objects: Iterable[Any]) -> None:
        manifests = Manifests()
        self._events = manifests.replace(objects)
        self.refusals: list[RefusedError] = manifests.refusals()
        self.conditions = manifests.conditions()
        self.passed_over = dict(manifests.passed_over)
        self.node_filters = sorted(
            event.ruleset.source.name
            for event in self._events
            if isinstance(event, RuleSetSet) and isinstance(event.ruleset.subject, Nodes)
        )
        self._pods = {(e.pod.namespace, e.pod.name): e.pod for e in self._events if isinstance(e, PodSet)}
        self._owners = _owners(self._pods.values())
        self._host_addresses = self._addresses_of_nodes(manifests)
        self._nodes: dict[str, _Node] = {}

    def answer(self, raw: Any, place: str = "") -> Answer:
        """The answer to one probe; `RefusedError` where it can't be read."""
        probe = Value(ObjectRef(PROBE, "", place), "", raw)
        packet = self._packet(probe.only(_FIELDS))
        depends_on: set[str] = set()
        egress = self._judge(packet, Direction.EGRESS, depends_on)
        ingress = self._judge(packet, Direction.INGRESS, depends_on)
        return Answer(dict(probe.mapping()), egress, ingress, tuple(sorted(depends_on)))

    def _addresses_of_nodes(self, manifests: Manifests) -> dict[str, set[Address]]:
        """What Node objects state, and what the pods on them report."""
        found: dict[str, set[Address]] = defaultdict(set)
        for event in self._events:
            if isinstance(event, NodeSet):
                found[event.node.name].update(event.node.addresses)
        for raw in manifests.pods():
            try:
                node, addresses = parse_host_addresses(raw)
            except RefusedError as refused:
                self.refusals.append(refused)
            else:
                found[node].update(addresses)
        return found

    def _judge(self, packet: Packet, direction: Direction, depends_on: set[str]) -> End:
        source, destination = self._owners.get(packet.source), self._owners.get(packet.destination)
        pod = destination if direction is Direction.INGRESS else source
        if pod is None:
            return End(allowed=True, reason=NOT_ISOLATED)
        if source is destination:
            return End(allowed=True, reason=SELF)
        node = self._node(pod.node)
        if direction is Direction.INGRESS and packet.source in node.addresses:
            return End(allowed=True, reason=OWN_NODE)
        verdict = Verdict()
        decided = node.classifier.filters(packet, direction, verdict)
        # What a pod sends to its own node, its filters judge and no policy.
        to_own_node = direction is Direction.EGRESS and packet.destination in node.addresses
        if not decided and not to_own_node:
            decided = node.classifier.policies(packet, direction, verdict)
        depends_on |= verdict.depends_on
        if not decided or verdict.entry is None:
            return End(allowed=True, reason=OWN_NODE if to_own_node else NOT_ISOLATED)
        return End(verdict.allowed, _decider(node, verdict.entry), entry=verdict.entry)

    def _node(self, name: str) -> _Node:
        node = self._nodes.get(name)
        if node is None:
            compiler = NodeCompiler(name)
            for event in of_node(name, self._events):
                compiler.apply(event)
            compiler.delta()
            tables = compiler.tables()
            node = _Node(tables, Classifier(tables), compiler.scopes(), self._host_addresses[name])
            self._nodes[name] = node
        return node

    def _packet(self, probe: Value) -> Packet:
        source, destination = self._ends(probe)
        number = _protocol(probe.field("protocol"))
        sport, dport = _port(probe.field("sourcePort")), _port(probe.field("port"))
        icmp, flags = probe.field("icmp"), probe.field("tcpFlags")
        if icmp.present or number in {ICMP, ICMPV6}:
            icmp.only({"type", "code"})
            sport, dport = _octet(icmp.field("type")), _octet(icmp.field("code"))
        elif number not in PORT_PROTOCOLS:
            sport = dport = 0
        bits = sum({TCP_FLAGS[item.choice(list(TCP_FLAGS))] for item in flags.items()})
        return Packet(source, destination, number, sport, dport, bits if flags.present else None)

    def _ends(self, probe: Value) -> tuple[Address, Address]:
        """The first address of a pod, or the first of the family that the other end has."""
        sources, destinations = (self._addresses(probe.required(name)) for name in ("from", "to"))
        pairs = ((s, d) for s in sources for d in destinations if s.family == d.family)
        pair = next(pairs, None)
        if pair is None:
            probe.refuse(Refusal.CONTRADICTION, "its two ends have no address of one family")
        return pair

    def _addresses(self, end: Value) -> tuple[Address, ...]:
        text = end.text()
        if "/" not in text:
            return (end.parsed(parse_address, Refusal.INVALID_VALUE),)
        namespace, _, name = text.partition("/")
        pod = self._pods.get((namespace, name))
        if pod is None:
            end.refuse(Refusal.INVALID_VALUE, f"there is no pod {text}")
        if not pod.addresses:
            end.refuse(Refusal.INVALID_VALUE, f"pod {text} has no address in status.podIPs")
        return pod.addresses


def _owners(pods: Iterable[Pod]) -> dict[Address, Pod]:
    """Whose address it is: the newest of those that run on the pod network."""
    owners: dict[Address, Pod] = {}
    for pod in sorted(pods, key=lambda pod: pod.age):
        if not pod.host_network and not pod.terminal:
            owners.update(dict.fromkeys(pod.addresses, pod))
    return owners


def _decider(node: _Node, entry: Entry) -> Decider:
    """The object that a rule belongs to. A default deny is that of the first policy that isolates."""
    name = node.tables.rules[entry.rule]
    if name.kind is RuleKind.DEFAULT_DENY:
        first = node.scopes[entry.scope].sources[0]
        return Decider(NETWORK_POLICY, first.namespace, first.name, name.rule)
    return Decider(name.kind, None if name.kind in CLUSTER_WIDE else name.namespace, name.name, name.rule)


def _protocol(value: Value) -> int:
    if not value.present:
        return TCP
    if isinstance(value.raw, str):
        return PROTOCOL_NUMBERS[value.choice(list(PROTOCOL_NUMBERS))]
    return value.number(0, 255)


def _port(value: Value) -> int | None:
    return value.number(0, 65535, Refusal.INVALID_PORT) if value.present else None


def _octet(value: Value) -> int | None:
    return value.number(0, 255) if value.present else None
