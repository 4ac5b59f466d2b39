# SPDX-License-Identifier: Apache-2.0
"""What is odd about filters that are valid: rules that never match, and filters of one priority that
disagree.

Filters of one priority are resolved by the order of their names, so nothing is undefined; but whoever wrote
them may not know of one another. A disagreement is a packet that both match, of subjects that both may
select, with different actions.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from wildcard_operator.model.entries import Condition, Reason
from wildcard_operator.model.net import ICMP, ICMPV6, V4, V6, Prefix
from wildcard_operator.model.rulesets import Block, Mode, Nodes, Pods, Rule, RuleSet, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wildcard_operator.model.label_selectors import Selector
    from wildcard_operator.model.net import PortRange

PASSED_BEFORE_FILTERS: Final = {
    ICMP: frozenset({0, 3, 4, 11, 12}),
    ICMPV6: frozenset({1, 2, 3, 4, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143}),
}
"""ICMP types that no pod's filter is asked about: an echo reply goes as its request, the others pass."""

_ANY_TRAFFIC: Final = (Traffic(),)
_FAMILY: Final = {ICMP: V4, ICMPV6: V6}
_Prefixes = tuple[Prefix, ...] | None
_Boxes = tuple[_Prefixes, _Prefixes, tuple[Traffic, ...]]


class FilterReports:
    """Conditions of all filters; a filter that changes is compared with those of its priority again."""

    def __init__(self) -> None:
        self._filters: dict[str, RuleSet] = {}
        self._own: dict[str, tuple[Condition, ...]] = {}
        self._conflicts: dict[tuple[str, str], tuple[str, str]] = {}

    def set_filter(self, name: str, ruleset: RuleSet | None) -> None:
        """Take a filter as it is now; None: it is gone, or off."""
        if self._filters.pop(name, None) is not None:
            self._conflicts = {pair: rules for pair, rules in self._conflicts.items() if name not in pair}
            del self._own[name]
        if ruleset is None:
            return
        for other_name, other in self._filters.items():
            rules = _disagreement(ruleset, other)
            if rules is not None:
                self._conflicts[name, other_name] = rules
        self._filters[name] = ruleset
        self._own[name] = tuple(_never_matching(ruleset))

    def conditions(self) -> tuple[Condition, ...]:
        """All that is odd now, sorted."""
        found = [condition for own in self._own.values() for condition in own]
        for (name, other), (rule, other_rule) in self._conflicts.items():
            found.append(self._conflict(name, rule, other, other_rule))
            found.append(self._conflict(other, other_rule, name, rule))
        return tuple(sorted(found))

    def _conflict(self, name: str, rule: str, other: str, other_rule: str) -> Condition:
        first = min(name, other)
        return _condition(
            self._filters[name],
            rule,
            Reason.CONFLICTED,
            f"rule {other_rule} of filter {other} has the same priority, may match the same packets and does "
            f"otherwise with them: {first} decides, as its name sorts first; give them different priorities",
        )


def _condition(ruleset: RuleSet, rule: str, reason: Reason, message: str) -> Condition:
    source = ruleset.source
    return Condition(source.kind, source.namespace, source.name, rule, reason, message)


# Rules that never match


def _never_matching(ruleset: RuleSet) -> Iterator[Condition]:
    boxes = [_boxes(rule) for rule in ruleset.rules]
    for index, rule in enumerate(ruleset.rules):
        message = _unmatchable(boxes[index], pods=isinstance(ruleset.subject, Pods))
        if message is None:
            above = next((n for n in range(index) if _covers(boxes[n], boxes[index])), None)
            if above is not None:
                message = f"rule {ruleset.rules[above].id} above it matches all that it matches"
        if message is not None:
            yield _condition(ruleset, rule.id, Reason.NEVER_MATCHES, f"it never matches: {message}")


def _unmatchable(boxes: _Boxes, *, pods: bool) -> str | None:
    sources, destinations, traffic = boxes
    if sources == () or destinations == ():
        return "the excepts leave nothing of its prefixes"
    families = {prefix.family for prefix in (*(sources or ()), *(destinations or ()))}
    with_types = [t for t in traffic if t.icmp_type is not None or t.icmp_code is not None]
    typed_only = bool(families) and with_types == list(traffic)
    if typed_only and not any(_FAMILY.get(t.protocol or 0) in families for t in with_types):
        return "its prefixes and its ICMP are of different families"
    if pods and all(t.icmp_type in PASSED_BEFORE_FILTERS.get(t.protocol or 0, ()) for t in traffic):
        return (
            "replies to echo are judged as their requests, and errors, neighbour discovery and "
            "packet-too-big pass before any filter"
        )
    return None


def _covers(upper: _Boxes, lower: _Boxes) -> bool:
    """Whether all that `lower` matches is matched by `upper`."""
    return (
        _prefixes_cover(upper[0], lower[0])
        and _prefixes_cover(upper[1], lower[1])
        and all(any(_traffic_covers(u, t) for u in upper[2]) for t in lower[2])
    )


def _prefixes_cover(upper: _Prefixes, lower: _Prefixes) -> bool:
    if upper is None:
        return True
    return lower is not None and all(any(u.contains(prefix) for u in upper) for prefix in lower)


def _traffic_covers(upper: Traffic, lower: Traffic) -> bool:
    return (
        upper.protocol in {None, lower.protocol}
        and _ranges_cover(upper.source_ports, lower.source_ports)
        and _ranges_cover(upper.destination_ports, lower.destination_ports)
        and upper.icmp_type in {None, lower.icmp_type}
        and upper.icmp_code in {None, lower.icmp_code}
        and _flags_cover(upper.flags, lower.flags)
    )


def _ranges_cover(upper: tuple[PortRange, ...], lower: tuple[PortRange, ...]) -> bool:
    if not upper:
        return True
    return bool(lower) and all(any(u.first <= r.first and r.last <= u.last for u in upper) for r in lower)


def _flags_cover(upper: tuple[int, int] | None, lower: tuple[int, int] | None) -> bool:
    if upper is None:
        return True
    return lower is not None and upper[1] & ~lower[1] == 0 and lower[0] & upper[1] == upper[0]


# Filters that disagree


def _disagreement(one: RuleSet, other: RuleSet) -> tuple[str, str] | None:
    """Two rules of two filters that may match one packet of one subject, and do different things; by their
    names."""
    if one.priority != other.priority or Mode.AUDIT in {one.mode, other.mode}:
        return None
    if not _subjects_meet(one, other):
        return None
    for a, b in product(one.rules, other.rules):
        if a.direction is b.direction and a.action is not b.action and _meet(_boxes(a), _boxes(b)):
            return a.id, b.id
    return None


def _subjects_meet(one: RuleSet, other: RuleSet) -> bool:
    match one.subject, other.subject:
        case Pods() as a, Pods() as b:
            names = {name for name in (a.namespaces.name, b.namespaces.name) if name}
            return (
                len(names) < 2
                and _may_both_match(a.namespaces.selector, b.namespaces.selector)
                and _may_both_match(a.selector, b.selector)
            )
        case Nodes() as a, Nodes() as b:
            return _may_both_match(a.selector, b.selector)
        case _:
            return False


def _may_both_match(one: Selector, other: Selector) -> bool:
    """Whether some labels satisfy both selectors; keys don't depend on one another."""
    requirements = [*one.requirements, *other.requirements]
    for key in {requirement.key for requirement in requirements}:
        of_key = [requirement for requirement in requirements if requirement.key == key]
        values = {value for requirement in of_key for value in requirement.values}
        # A value that no requirement names stands for all others.
        candidates: Iterable[dict[str, str]] = [{}, {key: "\0"}, *({key: value} for value in values)]
        if not any(all(r.matches(labels) for r in of_key) for labels in candidates):
            return False
    return True


def _meet(one: _Boxes, other: _Boxes) -> bool:
    return (
        _prefixes_meet(one[0], other[0])
        and _prefixes_meet(one[1], other[1])
        and any(_traffic_meets(a, b) for a, b in product(one[2], other[2]))
    )


def _prefixes_meet(one: _Prefixes, other: _Prefixes) -> bool:
    if one is None or other is None:
        return one != () and other != ()
    return any(a.contains(b) or b.contains(a) for a, b in product(one, other))


def _traffic_meets(one: Traffic, other: Traffic) -> bool:
    return (
        (one.protocol is None or other.protocol is None or one.protocol == other.protocol)
        and _ranges_meet(one.source_ports, other.source_ports)
        and _ranges_meet(one.destination_ports, other.destination_ports)
        and (one.icmp_type is None or other.icmp_type in {None, one.icmp_type})
        and (one.icmp_code is None or other.icmp_code in {None, one.icmp_code})
        and _flags_meet(one.flags or (0, 0), other.flags or (0, 0))
    )


def _ranges_meet(one: tuple[PortRange, ...], other: tuple[PortRange, ...]) -> bool:
    if not one or not other:
        return True
    return any(a.first <= b.last and b.first <= a.last for a, b in product(one, other))


def _flags_meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    both = one[1] & other[1]
    return one[0] & both == other[0] & both


def _boxes(rule: Rule) -> _Boxes:
    traffic = _ANY_TRAFFIC if rule.traffic is None else rule.traffic
    return _all_prefixes(rule.sources), _all_prefixes(rule.destinations), traffic


def _all_prefixes(blocks: tuple[Block, ...] | None) -> _Prefixes:
    return None if blocks is None else tuple(prefix for block in blocks for prefix in block.prefixes())
