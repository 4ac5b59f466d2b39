# SPDX-License-Identifier: Apache-2.0
"""Reads a RuleSet's `spec`; what it doesn't understand fails closed, as the head of `rulesets` says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from wildcard_operator.model.entries import Problem, Reason
from wildcard_operator.model.errors import ObjectRef, Refusal, RefusedError
from wildcard_operator.model.fields import Value
from wildcard_operator.model.label_selectors import EVERYTHING, Selector, parse_requirement, selector
from wildcard_operator.model.net import Action, Direction, PortRange, parse_prefix
from wildcard_operator.model.rulesets import (
    FORMAT_VERSION,
    NETWORK_POLICY,
    WILDCARD_FILTER,
    AnyPeer,
    Block,
    Interfaces,
    Mode,
    Namespaces,
    Nodes,
    Peer,
    Pods,
    Rule,
    RuleSet,
    Traffic,
)

_TRAFFIC_FIELDS: Final = {"protocol", "sourcePorts", "destinationPorts", "names", "icmp", "tcpFlags"}
_RULE_FIELDS: Final = {"id", "place", "direction", "action", "peers", "sources", "destinations", "traffic"}
_PEERS: Final = {"any", "pods", "block"}


def ruleset_from_dict(spec: object, source: ObjectRef) -> RuleSet:
    """The RuleSet of a `spec`. `source` names what it speaks for where the spec itself can't be read."""
    value = Value(source, "spec", spec)
    problems: list[Problem] = []
    try:
        return _parse(value, problems)
    except RefusedError as refused:
        return _failed_closed(value, str(refused))


def _failed_closed(value: Value, message: str) -> RuleSet:
    """What an unreadable RuleSet becomes: all pods that it could speak of, cut off in both directions.

    Of one that names nodes as its subject nothing is left but the problem.
    """
    problems = (Problem(Reason.UNKNOWN_FORMAT, message),)
    subject = value.raw.get("subject") if isinstance(value.raw, dict) else None
    if isinstance(subject, dict) and "nodes" in subject:
        return RuleSet(value.ref, Nodes(EVERYTHING, Interfaces()), 0, problems=problems)
    pods = Pods(Namespaces(value.ref.namespace))
    return RuleSet(value.ref, pods, 0, isolates=tuple(Direction), problems=problems)


def _parse(value: Value, problems: list[Problem]) -> RuleSet:
    version = value.required("formatVersion")
    if version.raw != FORMAT_VERSION:
        version.refuse(
            Refusal.UNKNOWN_FORMAT, f"{version.raw!r} is unknown to this version: it reads {FORMAT_VERSION}"
        )
    origin = value.required("source")
    source = ObjectRef(
        origin.required("kind").choice((NETWORK_POLICY, WILDCARD_FILTER)),
        origin.required("namespace").text(),
        origin.required("name").text(),
    )
    rules = tuple(_RuleParser(item, problems).rule() for item in value.field("rules").items())
    return RuleSet(
        source=source,
        subject=_subject(value.required("subject")),
        priority=value.required("priority").number(0, 2**32 - 1),
        rules=rules,
        isolates=tuple(Direction(item.choice(list(Direction))) for item in value.field("isolates").items()),
        mode=Mode(value.required("mode").choice(list(Mode))),
        generation=value.required("generation").number(0, 2**63 - 1),
        problems=tuple(problems),
    )


def _subject(value: Value) -> Pods | Nodes:
    value.only({"pods", "nodes"})
    if value.field("nodes").present:
        nodes = value.field("nodes").only({"selector", "interfaces"})
        interfaces = nodes.required("interfaces").only({"names", "patterns", "primary"})
        return Nodes(
            _selector(nodes.field("selector")),
            Interfaces(
                tuple(item.text() for item in interfaces.field("names").items()),
                tuple(item.text() for item in interfaces.field("patterns").items()),
                interfaces.field("primary").flag(default=False),
            ),
        )
    return _pods(value.required("pods"))


def _pods(value: Value) -> Pods:
    value.only({"namespaces", "selector"})
    namespaces = value.required("namespaces").only({"name", "selector"})
    if namespaces.field("name").present:
        return Pods(Namespaces(namespaces.field("name").text()), _selector(value.field("selector")))
    return Pods(
        Namespaces("", _selector(namespaces.required("selector"))), _selector(value.field("selector"))
    )


def _selector(value: Value) -> Selector:
    return selector(parse_requirement(item) for item in value.items())


def _block(value: Value) -> Block:
    value.only({"cidr", "except"})
    cidr, _ = value.required("cidr").parsed(parse_prefix, Refusal.INVALID_CIDR)
    excepts = tuple(
        item.parsed(parse_prefix, Refusal.INVALID_CIDR)[0] for item in value.field("except").items()
    )
    return Block(cidr, excepts)


@dataclass(slots=True)
class _RuleParser:
    """Reads one rule, its action first: that decides what a part that isn't understood becomes."""

    value: Value
    problems: list[Problem]
    _action: Action = field(default=Action.DROP, init=False)

    def rule(self) -> Rule:
        value = self.value
        self._action = self._read_action()
        unknown = sorted(str(name) for name in value.mapping() if name not in _RULE_FIELDS)
        if unknown:
            self._problem(value, f"fields {', '.join(unknown)} are unknown")
        peers = [peer for item in value.field("peers").items() for peer in self._peer(item)]
        traffic: list[Traffic] | None = None
        if value.field("traffic").present:
            traffic = [one for item in value.field("traffic").items() for one in self._traffic(item)]
        # A condition that is not understood: an allowing rule never applies, a dropping one without it.
        if unknown and self._action is not Action.DROP:
            peers = []
        return Rule(
            id=value.required("id").text(),
            place=value.required("place").number(0, 2**31 - 1),
            direction=Direction(value.required("direction").choice(list(Direction))),
            action=self._action,
            peers=tuple(peers),
            sources=self._blocks("sources"),
            destinations=self._blocks("destinations"),
            traffic=None if traffic is None else tuple(traffic),
        )

    def _read_action(self) -> Action:
        action = self.value.required("action")
        if action.raw in set(Action):
            return Action(action.raw)
        self._problem(action, f"{action.raw!r} is an action unknown to this version: the rule drops")
        return Action.DROP

    def _blocks(self, name: str) -> tuple[Block, ...] | None:
        value = self.value.field(name)
        return tuple(_block(item) for item in value.items()) if value.present else None

    def _peer(self, value: Value) -> list[Peer]:
        kinds = set(value.mapping())
        if len(kinds) != 1 or not kinds <= _PEERS:
            self._problem(
                value, f"{', '.join(sorted(map(str, kinds))) or 'nothing'} is no peer known to this version"
            )
            return [AnyPeer()] if self._action is Action.DROP else []
        if "pods" in kinds:
            return [_pods(value.field("pods"))]
        if "block" in kinds:
            return [_block(value.field("block"))]
        return [AnyPeer()]

    def _traffic(self, value: Value) -> list[Traffic]:
        unknown = sorted(str(name) for name in value.mapping() if name not in _TRAFFIC_FIELDS)
        if unknown:
            self._problem(value, f"{', '.join(unknown)} is a match unknown to this version")
            return [Traffic()] if self._action is Action.DROP else []
        protocol, icmp, flags = value.field("protocol"), value.field("icmp"), value.field("tcpFlags")
        return [
            Traffic(
                protocol=protocol.number(0, 255) if protocol.present else None,
                source_ports=tuple(_ports(item) for item in value.field("sourcePorts").items()),
                destination_ports=tuple(_ports(item) for item in value.field("destinationPorts").items()),
                names=tuple(item.text() for item in value.field("names").items()),
                icmp_type=_octet(icmp.only({"type", "code"}).field("type")),
                icmp_code=_octet(icmp.field("code")),
                flags=_flags(flags) if flags.present else None,
            )
        ]

    def _problem(self, value: Value, message: str) -> None:
        self.problems.append(Problem(Reason.UNKNOWN_FORMAT, f"{value.path}: {message}"))


def _octet(value: Value) -> int | None:
    return value.number(0, 255) if value.present else None


def _flags(value: Value) -> tuple[int, int]:
    value.only({"value", "mask"})
    return value.required("value").number(0, 255), value.required("mask").number(0, 255)


def _ports(value: Value) -> PortRange:
    bounds = [item.number(0, 65535, Refusal.INVALID_PORT) for item in value.items()]
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        value.refuse(Refusal.INVALID_PORT, "write [first, last], first not above last")
    return PortRange(*bounds)
