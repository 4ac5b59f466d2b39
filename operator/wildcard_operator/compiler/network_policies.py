# SPDX-License-Identifier: Apache-2.0
"""NetworkPolicy (networking.k8s.io/v1) in its normal form.

A policy that the API server would refuse is refused here with the field's path. A peer selector that
mentions a volatile label selects nobody: the policy stays in force, as isolation must, and `problems` says
so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from wildcard_operator.model.addresssets import DEFAULT_VOLATILE_LABELS
from wildcard_operator.model.entries import PRIORITY_POLICY, Problem, Reason
from wildcard_operator.model.errors import ObjectRef, Refusal, RefusedError
from wildcard_operator.model.fields import Value, root
from wildcard_operator.model.label_selectors import (
    NAMESPACE_NAME_LABEL,
    Operator,
    Selector,
    parse_selector,
    refuse_keys,
)
from wildcard_operator.model.net import PROTOCOL_NUMBERS, Action, Direction, PortRange, Prefix, parse_prefix
from wildcard_operator.model.ports import merge_ranges, parse_port_range
from wildcard_operator.model.rulesets import (
    NETWORK_POLICY,
    AnyPeer,
    Block,
    Namespaces,
    Peer,
    Pods,
    Rule,
    RuleSet,
    Traffic,
)

if TYPE_CHECKING:
    from collections.abc import Collection

_PORT_NAME: Final = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_LISTS: Final = {Direction.INGRESS: ("ingress", "from"), Direction.EGRESS: ("egress", "to")}


def network_policy(raw: Any, volatile: Collection[str] = DEFAULT_VOLATILE_LABELS) -> RuleSet:
    """The RuleSet of a NetworkPolicy. `RefusedError` where it isn't valid.

    `volatile` are labels that no peer selector may mention.
    """
    policy = root(raw, NETWORK_POLICY)
    policy.only({"apiVersion", "kind", "metadata", "spec", "status"})
    metadata = policy.required("metadata")
    metadata.required("name").text()
    namespace = metadata.field("namespace").text() if metadata.field("namespace").present else "default"
    source = ObjectRef(NETWORK_POLICY, namespace, policy.ref.name)
    return _PolicyParser(namespace, volatile).ruleset(policy, source)


class _PolicyParser:
    def __init__(self, namespace: str, volatile: Collection[str]) -> None:
        self._namespace = namespace
        self._volatile = volatile
        self._problems: list[Problem] = []

    def ruleset(self, policy: Value, source: ObjectRef) -> RuleSet:
        spec = policy.field("spec").only({"podSelector", "policyTypes", "ingress", "egress"})
        rules = [
            self._rule(item, direction, index)
            for direction, (name, _) in _LISTS.items()
            for index, item in enumerate(spec.field(name).items())
        ]
        isolates = _policy_types(spec)
        return RuleSet(
            source=source,
            subject=Pods(Namespaces(self._namespace), parse_selector(spec.field("podSelector"))),
            priority=PRIORITY_POLICY,
            rules=tuple(rule for rule in rules if rule.direction in isolates),
            isolates=isolates,
            generation=generation(policy),
            problems=tuple(self._problems),
        )

    def _rule(self, item: Value, direction: Direction, index: int) -> Rule:
        _, peers_name = _LISTS[direction]
        item.only({"ports", peers_name})
        ports = [_port(port) for port in item.field("ports").items()]
        listed = list(item.field(peers_name).items())
        peers = [peer for value in listed for peer in self._peer(value)] if listed else [AnyPeer()]
        return Rule(
            id=f"{direction.value.lower()}[{index}]",
            place=index,
            direction=direction,
            action=Action.ALLOW,
            peers=tuple(dict.fromkeys(peers)),
            traffic=_grouped(ports) if ports else None,
        )

    def _peer(self, value: Value) -> list[Peer]:
        value.only({"podSelector", "namespaceSelector", "ipBlock"})
        pods, namespaces, block = (
            value.field(name) for name in ("podSelector", "namespaceSelector", "ipBlock")
        )
        if block.present:
            if pods.present or namespaces.present:
                block.refuse(Refusal.CONTRADICTION, "ipBlock excludes selectors: make it a peer of its own")
            return [self._block(block)]
        if not pods.present and not namespaces.present:
            value.refuse(
                Refusal.MISSING_FIELD,
                "a peer needs podSelector, namespaceSelector or ipBlock; for any peer leave the list empty",
            )
        selected = Pods(
            named_or_selected(parse_selector(namespaces))
            if namespaces.present
            else Namespaces(self._namespace),
            parse_selector(pods),
        )
        try:
            refuse_keys(pods, selected.selector, self._volatile)
        except RefusedError as refused:
            message = f"{refused.path}: {refused.message}; this peer selects nobody"
            self._problems.append(Problem(Reason.VOLATILE_LABEL, message))
            return []
        return [selected]

    def _block(self, value: Value) -> Block:
        block, masked = parse_block(value)
        self._problems.extend(masked)
        return block


def generation(value: Value) -> int:
    """`metadata.generation`, 0 where there is none."""
    number = value.field("metadata").field("generation")
    return number.number(0, 2**63 - 1) if number.present else 0


def named_or_selected(selector: Selector) -> Namespaces:
    """The shortest way to say which namespaces: every namespace carries its name as a label."""
    requirements = tuple(
        r for r in selector.requirements if (r.key, r.operator) != (NAMESPACE_NAME_LABEL, Operator.EXISTS)
    )
    if len(requirements) == 1:
        only = requirements[0]
        if (only.key, only.operator) == (NAMESPACE_NAME_LABEL, Operator.IN) and len(only.values) == 1:
            return Namespaces(only.values[0])
    return Namespaces("", Selector(requirements))


def parse_block(value: Value) -> tuple[Block, list[Problem]]:
    """A `{cidr, except}` object; beside it a remark for each prefix whose host bits were masked."""
    value.only({"cidr", "except"})
    masked: list[Problem] = []
    cidr, host_bits = value.required("cidr").parsed(parse_prefix, Refusal.INVALID_CIDR)
    if host_bits:
        masked.append(_masked(f"{value.path}.cidr", cidr))
    excepts = []
    for item in value.field("except").items():
        hole, host_bits = item.parsed(parse_prefix, Refusal.INVALID_CIDR)
        if not cidr.contains(hole):
            item.refuse(Refusal.INVALID_EXCEPT, f"{hole.text} must lie inside {cidr.text}")
        if host_bits:
            masked.append(_masked(item.path, hole))
        excepts.append(hole)
    return Block(cidr, tuple(sorted(set(excepts)))), masked


def _masked(path: str, prefix: Prefix) -> Problem:
    return Problem(Reason.HOST_BITS_MASKED, f"{path}: host bits are set, taken as {prefix.text}")


def _policy_types(spec: Value) -> tuple[Direction, ...]:
    """Absent or empty: Ingress always, Egress where there is an egress rule."""
    given = [Direction(item.choice(list(Direction))) for item in spec.field("policyTypes").items()]
    if not given:
        given = [Direction.INGRESS]
        if any(True for _ in spec.field("egress").items()):
            given.append(Direction.EGRESS)
    return tuple(direction for direction in Direction if direction in given)


def _port(item: Value) -> Traffic:
    item.only({"protocol", "port", "endPort"})
    protocol = item.field("protocol")
    number = PROTOCOL_NUMBERS[protocol.choice(("TCP", "UDP", "SCTP")) if protocol.present else "TCP"]
    port = item.field("port")
    if isinstance(port.raw, str):
        if item.field("endPort").present:
            item.field("endPort").refuse(Refusal.INVALID_PORT, "a range needs a numeric port, not a name")
        return Traffic(number, names=(_port_name(port),))
    if port.present or item.field("endPort").present:
        return Traffic(number, destination_ports=(parse_port_range(item),))
    return Traffic(number)


def _port_name(port: Value) -> str:
    name = port.text()
    if len(name) > 15 or not _PORT_NAME.fullmatch(name):
        port.refuse(
            Refusal.INVALID_PORT,
            f"{name!r} is no port name (1 to 15 of a-z, 0-9, -, one a letter); write numbers without quotes",
        )
    return name


def _grouped(ports: list[Traffic]) -> tuple[Traffic, ...]:
    """One Traffic a protocol; a port without number or name stands for all ports of its protocol."""
    grouped = []
    for protocol in dict.fromkeys(port.protocol for port in ports):
        same = [port for port in ports if port.protocol == protocol]
        if any(not port.destination_ports and not port.names for port in same):
            grouped.append(Traffic(protocol))
            continue
        ranges: list[PortRange] = [r for port in same for r in port.destination_ports]
        names = sorted({name for port in same for name in port.names})
        grouped.append(Traffic(protocol, destination_ports=merge_ranges(ranges), names=tuple(names)))
    return tuple(grouped)
