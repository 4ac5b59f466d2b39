# SPDX-License-Identifier: Apache-2.0
"""What an agent reports of its node: which filters and policies are in force as of the last commit, and
which aren't.
"""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING

from wildcard_operator.compiler import events
from wildcard_operator.kube.nodestate import (
    ENFORCING,
    SYNCED,
    FilterState,
    NodeCondition,
    NodeReport,
    PolicyException,
)
from wildcard_operator.model.entries import Reason
from wildcard_operator.model.objects import namespace_of
from wildcard_operator.model.rulesets import WILDCARD_FILTER, Nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wildcard_operator.datapath.errors import NodeCondition as Shortcoming
    from wildcard_operator.model.entries import Condition, NodeDelta, NodeTables, RuleName
    from wildcard_operator.model.objects import Namespace, Pod
    from wildcard_operator.model.rulesets import Namespaces, RuleSet

# Remarks on objects that are in force all the same, if oddly.
HARMLESS = frozenset({Reason.CONFLICTED, Reason.NEVER_MATCHES, Reason.HOST_BITS_MASKED, Reason.NO_INTERFACE})


class EntryCounts:
    """How many entries each filter takes, counted along with the commits."""

    def __init__(self) -> None:
        self._names: dict[int, RuleName] = {}
        self._counts: Counter[int] = Counter()

    def restart(self, tables: NodeTables) -> None:
        """The whole was put in place."""
        self._names = dict(tables.rules)
        self._counts = Counter(entry.rule for entry in tables.entries)

    def change(self, delta: NodeDelta) -> None:
        """A change was committed."""
        self._names |= delta.rules_added
        self._counts.update(entry.rule for entry in delta.entries_added)
        self._counts.subtract(entry.rule for entry in delta.entries_removed)
        for rule in delta.rules_removed:
            self._names.pop(rule, None)
            self._counts.pop(rule, None)

    def of_filters(self) -> Counter[str]:
        """Entries by the filter's name."""
        found: Counter[str] = Counter()
        for rule, name in self._names.items():
            if name.kind == WILDCARD_FILTER:
                found[name.name] += self._counts[rule]
        return found


class NodeView:
    """Follows what the compiler is told, as far as reports speak of it; `settle` is called at each commit."""

    def __init__(self) -> None:
        self.entries = EntryCounts()
        self.shortcomings: Sequence[Shortcoming] = ()
        self.remarks: Sequence[Condition] = ()
        self.xdp_modes: Mapping[str, str] = {}
        self._started = False
        self._revision = 0
        self._labels: dict[str, str] = {}
        self._pods: dict[tuple[str, str], Pod] = {}
        self._namespaces: dict[str, Namespace] = {}
        self._seen: dict[str, RuleSet] = {}
        self._filters: dict[str, RuleSet] = {}

    def see(self, event: events.Event) -> None:
        """An event on its way to the compiler."""
        match event:
            case events.PodSet(pod):
                self._pods[pod.namespace, pod.name] = pod
            case events.PodRemoved(namespace, name):
                self._pods.pop((namespace, name), None)
            case events.NamespaceSet(namespace):
                self._namespaces[namespace.name] = namespace
            case events.NamespaceRemoved(name):
                self._namespaces.pop(name, None)
            case events.NodeSet(node):
                self._labels = dict(node.labels)
            case events.RuleSetSet(name, ruleset) if ruleset.source.kind == WILDCARD_FILTER:
                self._seen[name] = ruleset
            case events.RuleSetRemoved(name):
                self._seen.pop(name, None)
            case _:
                pass

    def settle(self, revision: int) -> None:
        """All that was seen is in force; `revision` is the one of the RuleSets among it."""
        self._started = True
        self._revision = revision
        self._filters = dict(self._seen)

    def report(self, *, synced: bool) -> NodeReport:
        """What holds now."""
        entries = self.entries.of_filters()
        concerned = [ruleset for ruleset in self._filters.values() if self._concerns(ruleset)]
        return NodeReport(
            agent_version=version("wildcard-operator"),
            revision=self._revision,
            exceptions=tuple(self._exceptions()),
            filters=tuple(sorted(self._filter_state(one, entries[one.source.name]) for one in concerned)),
            interfaces=tuple(sorted(self.xdp_modes.items())),
            conditions=(self._enforcing(), _synced(synced)),
        )

    def _concerns(self, ruleset: RuleSet) -> bool:
        subject = ruleset.subject
        if isinstance(subject, Nodes):
            return subject.selector.matches(self._labels)
        return any(
            self._in(pod.namespace, subject.namespaces) and subject.selector.matches(dict(pod.labels))
            for pod in self._pods.values()
            if not pod.terminal and not pod.host_network
        )

    def _in(self, namespace: str, wanted: Namespaces) -> bool:
        if wanted.name:
            return wanted.name == namespace
        known = self._namespaces.get(namespace) or namespace_of(namespace)
        return wanted.selector.matches(dict(known.labels))

    def _filter_state(self, ruleset: RuleSet, entries: int) -> FilterState:
        trouble = next(self._troubles(ruleset), None)
        reason, message = trouble or ("", "")
        return FilterState(ruleset.source.name, ruleset.generation, trouble is None, entries, reason, message)

    def _troubles(self, ruleset: RuleSet) -> Iterator[tuple[str, str]]:
        """Why a filter is not in force: the node can't, or its RuleSet was not understood."""
        on_nodes = isinstance(ruleset.subject, Nodes)
        for one in self.shortcomings:
            if not one.subject or on_nodes:
                yield one.reason.value, one.message
        for remark in self.remarks:
            of_this = (remark.kind, remark.name) == (WILDCARD_FILTER, ruleset.source.name)
            if of_this and remark.reason not in HARMLESS:
                yield remark.reason.value, remark.message

    def _exceptions(self) -> Iterator[PolicyException]:
        for remark in self.remarks:
            if remark.kind != WILDCARD_FILTER and remark.reason not in HARMLESS:
                yield PolicyException(remark.namespace, remark.name, remark.reason.value, remark.message)

    def _enforcing(self) -> NodeCondition:
        if not self._started:
            return NodeCondition(ENFORCING, False, "Starting", "the agent has not committed anything yet")
        if self.shortcomings:
            message = "; ".join(one.message for one in self.shortcomings)
            return NodeCondition(ENFORCING, False, self.shortcomings[0].reason.value, message)
        return NodeCondition(ENFORCING, True, "Programmed", "the kernel judges by the last commit")


def _synced(synced: bool) -> NodeCondition:
    if synced:
        return NodeCondition(SYNCED, True, "Synced", "all that concerns the node was seen")
    return NodeCondition(SYNCED, False, "Reading", "what was in force before stays so until all was seen")
