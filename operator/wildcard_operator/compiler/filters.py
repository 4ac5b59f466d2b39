# SPDX-License-Identifier: Apache-2.0
"""WildcardFilter (wildcard-operator.io/v1alpha1) in its normal form.

Everything the CRD's schema and CEL rules refuse is refused here too, with the same meaning: a filter may
come from a file. Defaults become explicit: ports without a protocol stand for TCP, UDP and SCTP, icmp
without one for ICMP in IPv4 and ICMPv6 in IPv6, TCP flags for TCP.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any, Final

from wildcard_operator.compiler.network_policies import generation, named_or_selected, parse_block
from wildcard_operator.model.entries import PRIORITY_FILTER_LAST, Problem
from wildcard_operator.model.errors import ObjectRef, Refusal
from wildcard_operator.model.fields import Value, root
from wildcard_operator.model.label_selectors import parse_selector
from wildcard_operator.model.net import (
    ICMP,
    ICMP_OF_FAMILY,
    ICMPV6,
    PORT_PROTOCOLS,
    PROTOCOL_NUMBERS,
    TCP,
    TCP_FLAGS,
    Action,
    Direction,
)
from wildcard_operator.model.ports import merge_ranges, parse_port_range
from wildcard_operator.model.rulesets import (
    WILDCARD_FILTER,
    Block,
    Interfaces,
    Mode,
    Nodes,
    Pods,
    Rule,
    RuleSet,
    Traffic,
)

if TYPE_CHECKING:
    from wildcard_operator.model.net import PortRange

DEFAULT_PRIORITY: Final = 1000
MAX_RULES: Final = 256
MAX_PREFIXES: Final = 32
MAX_EXCEPTS: Final = 8
MAX_PORTS: Final = 32
API_VERSION: Final = "wildcard-operator.io/v1alpha1"

_OFF: Final = "Off"
_RULE_FIELDS: Final = {
    "name", "action", "protocol", "sources", "destinations", "sourcePorts", "destinationPorts", "icmp",
    "tcpFlags",
}  # fmt: skip


def wildcard_filter(raw: Any) -> RuleSet | None:
    """The RuleSet of a WildcardFilter, None where its mode is Off. `RefusedError` where it isn't valid."""
    filter_ = root(raw, WILDCARD_FILTER).only({"apiVersion", "kind", "metadata", "spec", "status"})
    metadata = filter_.required("metadata")
    source = ObjectRef(WILDCARD_FILTER, "", metadata.required("name").text())
    spec = filter_.required("spec").only({"priority", "mode", "direction", "target", "rules"})
    priority, mode = spec.field("priority"), spec.field("mode")
    direction = Direction(spec.required("direction").choice(list(Direction)))
    mode_text = mode.choice([*Mode, _OFF]) if mode.present else Mode.ENFORCE.value
    problems: list[Problem] = []
    ruleset = RuleSet(
        source=source,
        subject=_target(spec.required("target")),
        priority=priority.number(0, PRIORITY_FILTER_LAST) if priority.present else DEFAULT_PRIORITY,
        rules=_rules(spec.required("rules"), direction, problems),
        mode=Mode.ENFORCE if mode_text == _OFF else Mode(mode_text),
        generation=generation(filter_),
        problems=tuple(problems),
    )
    return None if mode_text == _OFF else ruleset


def _target(value: Value) -> Pods | Nodes:
    value.only({"nodes", "pods"})
    nodes, pods = value.field("nodes"), value.field("pods")
    if nodes.present == pods.present:
        value.refuse(Refusal.CONTRADICTION, "name exactly one of nodes and pods")
    if pods.present:
        pods.only({"namespaceSelector", "podSelector"})
        return Pods(
            named_or_selected(parse_selector(pods.field("namespaceSelector"))),
            parse_selector(pods.field("podSelector")),
        )
    nodes.only({"nodeSelector", "interfaces"})
    chosen = nodes.required("interfaces").only({"names", "patterns", "primary"})
    interfaces = Interfaces(
        tuple(item.text() for item in chosen.field("names").items()),
        tuple(item.text() for item in chosen.field("patterns").items()),
        chosen.field("primary").flag(default=False),
    )
    if interfaces == Interfaces():
        chosen.refuse(
            Refusal.MISSING_FIELD, "give names, patterns or primary: true, else no interface is meant"
        )
    return Nodes(parse_selector(nodes.field("nodeSelector")), interfaces)


def _rules(value: Value, direction: Direction, problems: list[Problem]) -> tuple[Rule, ...]:
    value.at_most(MAX_RULES)
    rules: dict[str, Rule] = {}
    for place, item in enumerate(value.items()):
        rule = _rule(item, place, direction, problems)
        if rule.id in rules:
            item.field("name").refuse(
                Refusal.DUPLICATE, f"rule {rule.id!r} is there already: names are unique"
            )
        rules[rule.id] = rule
    if not rules:
        value.refuse(
            Refusal.MISSING_FIELD, f"write 1 to {MAX_RULES} rules; to switch the filter off, mode: Off"
        )
    return tuple(rules.values())


def _rule(item: Value, place: int, direction: Direction, problems: list[Problem]) -> Rule:
    item.only(_RULE_FIELDS)
    name = item.required("name")
    if not name.text() or len(name.text()) > 63:
        name.refuse(Refusal.INVALID_VALUE, "a name has 1 to 63 characters")
    action = Action(item.required("action").choice(list(Action)))
    rule = Rule(
        id=name.text(),
        place=place,
        direction=direction,
        action=action,
        sources=_blocks(item.field("sources"), problems),
        destinations=_blocks(item.field("destinations"), problems),
        traffic=_traffic(item, action),
    )
    families = {block.cidr.family for block in (*(rule.sources or ()), *(rule.destinations or ()))}
    if len(families) > 1:
        item.refuse(Refusal.CONTRADICTION, "IPv4 and IPv6 prefixes don't mix: write a rule for each family")
    return rule


def _blocks(value: Value, problems: list[Problem]) -> tuple[Block, ...] | None:
    value.at_most(MAX_PREFIXES)
    blocks = []
    for item in value.items():
        item.field("except").at_most(MAX_EXCEPTS)
        block, masked = parse_block(item)
        blocks.append(block)
        problems.extend(masked)
    return tuple(dict.fromkeys(blocks)) or None


def _traffic(item: Value, action: Action) -> tuple[Traffic, ...] | None:
    protocol = _protocol(item.field("protocol"))
    sources, destinations = (_ports(item.field(name)) for name in ("sourcePorts", "destinationPorts"))
    icmp, flags = item.field("icmp"), item.field("tcpFlags")
    if icmp.present and not icmp.only({"type", "code"}).mapping():
        icmp.refuse(Refusal.MISSING_FIELD, "give type or code, or leave icmp out and write protocol: ICMP")
    for name, given in (("sourcePorts", sources), ("destinationPorts", destinations)):
        if given:
            _need(item.field(name), protocol, PORT_PROTOCOLS, "ports go with TCP, UDP and SCTP")
    if icmp.present:
        _need(icmp, protocol, (ICMP, ICMPV6), "icmp goes with ICMP and ICMPv6")
        if sources or destinations or flags.present:
            icmp.refuse(Refusal.CONTRADICTION, "icmp excludes ports and tcpFlags: no packet has both")
        return _icmp_traffic(icmp, protocol)
    if flags.present:
        _need(flags, protocol, (TCP,), "tcpFlags go with TCP")
        if action is not Action.DROP:
            flags.refuse(
                Refusal.CONTRADICTION,
                "tcpFlags go with action Drop only: what they let through ends at its next packet",
            )
        return (Traffic(TCP, sources, destinations, flags=_flags(flags)),)
    if protocol is None and not sources and not destinations:
        return None
    protocols = PORT_PROTOCOLS if protocol is None else (protocol,)
    return tuple(Traffic(number, sources, destinations) for number in protocols)


def _need(value: Value, protocol: int | None, allowed: tuple[int, ...], message: str) -> None:
    if protocol is not None and protocol not in allowed:
        value.refuse(Refusal.CONTRADICTION, f"{message}, not with protocol {protocol}")


def _icmp_traffic(icmp: Value, protocol: int | None) -> tuple[Traffic, ...]:
    kind, code = icmp.field("type"), icmp.field("code")
    kind_number = kind.number(0, 255) if kind.present else None
    code_number = code.number(0, 255) if code.present else None
    protocols = tuple(ICMP_OF_FAMILY.values()) if protocol is None else (protocol,)
    return tuple(Traffic(number, icmp_type=kind_number, icmp_code=code_number) for number in protocols)


def _ports(value: Value) -> tuple[PortRange, ...]:
    value.at_most(MAX_PORTS)
    return merge_ranges(parse_port_range(item.only({"port", "endPort"})) for item in value.items())


def _protocol(value: Value) -> int | None:
    if not value.present:
        return None
    if isinstance(value.raw, str):
        if value.raw in PROTOCOL_NUMBERS:
            return PROTOCOL_NUMBERS[value.raw]
        digits = value.raw and set(value.raw) <= set(string.digits)
        if not digits or int(value.raw) > 255:
            names = ", ".join(PROTOCOL_NUMBERS)
            value.refuse(
                Refusal.INVALID_VALUE, f"{value.raw!r} is unknown: write one of {names}, or 0 to 255"
            )
        return int(value.raw)
    return value.number(0, 255)


def _flags(value: Value) -> tuple[int, int]:
    value.only({"value", "mask"})
    wanted = _flag_bits(value.field("value"))
    mask = _flag_bits(value.field("mask")) if any(True for _ in value.field("mask").items()) else wanted
    if not mask:
        value.refuse(Refusal.MISSING_FIELD, "name at least one flag in value or mask")
    if wanted & ~mask:
        value.field("value").refuse(Refusal.CONTRADICTION, "every flag of value must be in mask too")
    return wanted, mask


def _flag_bits(value: Value) -> int:
    bits = 0
    for item in value.items():
        bits |= TCP_FLAGS[item.choice(list(TCP_FLAGS))]
    return bits
