# SPDX-License-Identifier: Apache-2.0
"""The operator's side: raw objects of the API become RuleSets and AddressSets.

    compiler = ClusterCompiler()
    compiler.put(raw)                              # any object of the five kinds, any number of times
    compiler.remove("Pod", "shop", "web-0")
    changes = compiler.changes()                   # what to publish now, since the last call

An object that is refused is named in `refusals` and left out, every other is unaffected. Of a refused
policy that still says which pods it selects, that much stays: they are isolated, since its author wanted
less to be allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from wildcard_operator.compiler.address_groups import SLICE_SIZE, AddressGroups
from wildcard_operator.compiler.filters import wildcard_filter
from wildcard_operator.compiler.network_policies import network_policy
from wildcard_operator.compiler.reports import FilterReports
from wildcard_operator.model.addresssets import DEFAULT_VOLATILE_LABELS
from wildcard_operator.model.entries import Condition, Problem, Reason
from wildcard_operator.model.errors import ObjectRef, Refusal, RefusedError
from wildcard_operator.model.objects import (
    NAMESPACE,
    NODE,
    POD,
    Namespace,
    Node,
    Pod,
    parse_namespace,
    parse_node,
    parse_pod,
)
from wildcard_operator.model.rulesets import NETWORK_POLICY, WILDCARD_FILTER, RuleSet, ruleset_name

if TYPE_CHECKING:
    from collections.abc import Collection

    from wildcard_operator.model.addresssets import AddressSet

GROUP_OF_KIND: Final = {
    POD: "",
    NAMESPACE: "",
    NODE: "",
    NETWORK_POLICY: "networking.k8s.io",
    WILDCARD_FILTER: "wildcard-operator.io",
}
CLUSTER_WIDE: Final = frozenset({NAMESPACE, NODE, WILDCARD_FILTER})


@dataclass(slots=True)
class Changes:
    """What to publish; None: delete. AddressSets stand in the order in which they should be written."""

    rulesets: dict[str, RuleSet | None] = field(default_factory=dict)
    address_sets: dict[str, AddressSet | None] = field(default_factory=dict)


class ClusterCompiler:
    """All policies, filters and pods of a cluster in their normal form."""

    def __init__(
        self, volatile: Collection[str] = DEFAULT_VOLATILE_LABELS, slice_size: int = SLICE_SIZE
    ) -> None:
        self._volatile = frozenset(volatile)
        self.addresses = AddressGroups(volatile, slice_size)
        self._reports = FilterReports()
        self._rulesets: dict[str, RuleSet] = {}
        self._published: dict[str, RuleSet] = {}
        self._dirty: dict[str, None] = {}
        self.refusals: dict[ObjectRef, RefusedError] = {}

    def put(self, raw: Any) -> Pod | Namespace | Node | None:
        """Take an object as it is now.

        Returns a pod, namespace or node parsed, for whoever compiles a node in the same process. What can't
        be taken as it is stands in `refusals` until it is put again or removed.
        """
        ref = reference(raw)
        self.refusals.pop(ref, None)
        try:
            return self._put(raw, ref)
        except RefusedError as refused:
            self.refuse(raw, refused)
            return None

    def refuse(self, raw: Any, refused: RefusedError) -> None:
        """Count an object as absent, for a reason; a policy still isolates the pods that it selects."""
        ref = reference(raw)
        self.refusals[ref] = refused
        self._forget(ref)
        if ref.kind == NETWORK_POLICY:
            self._isolate(raw, ref, refused)

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """An object is gone."""
        ref = ObjectRef(kind, "" if kind in CLUSTER_WIDE else namespace, name)
        self.refusals.pop(ref, None)
        self._forget(ref)

    def changes(self) -> Changes:
        """What to publish, since the last call; what is published as it should be is not in it."""
        names, self._dirty = self._dirty, {}
        changes = Changes(address_sets=self.addresses.changes())
        for name in names:
            old, new = self._published.pop(name, None), self._rulesets.get(name)
            if new is not None:
                self._published[name] = new
            if new != old:
                changes.rulesets[name] = new
        return changes

    def conditions(self) -> tuple[Condition, ...]:
        """What is odd about policies and filters, sorted; refused ones are in it too."""
        found = [
            Condition(ref.kind, ref.namespace, ref.name, "", Reason.REFUSED, _sentence(refused))
            for ref, refused in self.refusals.items()
        ]
        for ruleset in self._rulesets.values():
            ref = ruleset.source
            found += [
                Condition(ref.kind, ref.namespace, ref.name, "", problem.reason, problem.message)
                for problem in ruleset.problems
                if problem.reason is not Reason.REFUSED
            ]
        return tuple(sorted([*found, *self._reports.conditions()]))

    def _put(self, raw: Any, ref: ObjectRef) -> Pod | Namespace | Node | None:
        match ref.kind:
            case "Pod":
                pod = parse_pod(raw)
                self.addresses.set_pod(pod)
                return pod
            case "Namespace":
                return parse_namespace(raw)
            case "Node":
                node = parse_node(raw)
                self.addresses.set_node(node.name, node)
                return node
            case "NetworkPolicy":
                self._set(ref, network_policy(raw, self._volatile))
            case "WildcardFilter":
                self._set(ref, wildcard_filter(raw))
            case _:
                raise RefusedError(
                    Refusal.INVALID_VALUE, ref, "kind", f"it is not one of {', '.join(GROUP_OF_KIND)}"
                )
        return None

    def _set(self, ref: ObjectRef, ruleset: RuleSet | None) -> None:
        name = ruleset_name(ref)
        self._dirty[name] = None
        if ruleset is None:
            self._rulesets.pop(name, None)
        else:
            self._rulesets[name] = ruleset
        if ref.kind == WILDCARD_FILTER:
            self._reports.set_filter(ref.name, ruleset)

    def _forget(self, ref: ObjectRef) -> None:
        match ref.kind:
            case "Pod":
                self.addresses.remove_pod(ref.namespace, ref.name)
            case "Node":
                self.addresses.set_node(ref.name, None)
            case "NetworkPolicy" | "WildcardFilter":
                self._set(ref, None)
            case _:
                pass

    def _isolate(self, raw: Any, ref: ObjectRef, refused: RefusedError) -> None:
        """Keep what a refused policy says about whom it isolates, if that much can be read."""
        spec = raw.get("spec")
        if not isinstance(spec, dict):
            return
        kept = {key: spec[key] for key in ("podSelector", "policyTypes") if key in spec}
        if spec.get("egress") and not spec.get("policyTypes"):
            kept["policyTypes"] = ["Ingress", "Egress"]
        try:
            ruleset = network_policy({**raw, "spec": kept}, self._volatile)
        except RefusedError:
            return
        self._set(ref, replace(ruleset, problems=(Problem(Reason.REFUSED, _sentence(refused)),)))


def reference(raw: Any) -> ObjectRef:
    """The name of a raw object, as far as it can be read; namespaced kinds default to `default`."""
    if not isinstance(raw, dict):
        return ObjectRef("?", "", "?")
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    kind, namespace, name = (
        str(part or "") for part in (raw.get("kind"), metadata.get("namespace"), metadata.get("name"))
    )
    return ObjectRef(kind or "?", "" if kind in CLUSTER_WIDE else namespace or "default", name or "?")


def is_known(raw: Any) -> bool:
    """Whether an object is of a kind that policies speak of; other APIs have a NetworkPolicy too."""
    kind, version = raw.get("kind"), raw.get("apiVersion")
    if kind not in GROUP_OF_KIND:
        return False
    return version is None or str(version).rpartition("/")[0] == GROUP_OF_KIND[kind]


def _sentence(refused: RefusedError) -> str:
    return f"{refused.path}: {refused.message}" if refused.path else refused.message
