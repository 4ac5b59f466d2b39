# SPDX-License-Identifier: Apache-2.0
"""What a node's compiler is told. Each event states how one thing is now, so repeating one changes
nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wildcard_operator.model.addresssets import AddressSet
    from wildcard_operator.model.net import Address
    from wildcard_operator.model.objects import Namespace, Node, Pod
    from wildcard_operator.model.rulesets import RuleSet


@dataclass(frozen=True, slots=True)
class PodSet:
    """A pod as it is now. Pods of other nodes and of the host's network are left out by the compiler
    itself."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class PodRemoved:
    """A pod's object is gone; its scopes stay while `Routes` still lists its address."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Routes:
    """Addresses that the host routes to a pod of its own, or bridges to one; all of them at once."""

    addresses: frozenset[Address]


@dataclass(frozen=True, slots=True)
class NamespaceSet:
    """A namespace as it is now."""

    namespace: Namespace


@dataclass(frozen=True, slots=True)
class NamespaceRemoved:
    """A namespace's object is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class NodeSet:
    """The node's own object as it is now."""

    node: Node


@dataclass(frozen=True, slots=True)
class NodeRemoved:
    """The node's own object is gone: no filter on nodes selects by its labels, and its pod ranges are
    unknown."""

    name: str


@dataclass(frozen=True, slots=True, order=True)
class Interface:
    """An interface of the host; `primary`: it carries a default route."""

    name: str
    primary: bool = False


@dataclass(frozen=True, slots=True)
class InterfacesSet:
    """The host's interfaces that filters on nodes may mean, without those of pods."""

    interfaces: frozenset[Interface]


@dataclass(frozen=True, slots=True)
class RuleSetSet:
    """A RuleSet as it is now, by its own object's name."""

    name: str
    ruleset: RuleSet


@dataclass(frozen=True, slots=True)
class RuleSetRemoved:
    """A RuleSet is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class AddressSetSet:
    """An AddressSet as it is now, by its own object's name."""

    name: str
    address_set: AddressSet


@dataclass(frozen=True, slots=True)
class AddressSetRemoved:
    """An AddressSet is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class Synced:
    """Namespaces of which all RuleSets have been seen; None: of all. Pods of other namespaces are
    isolated."""

    namespaces: frozenset[str] | None


Event = (
    PodSet
    | PodRemoved
    | Routes
    | NamespaceSet
    | NamespaceRemoved
    | NodeSet
    | NodeRemoved
    | InterfacesSet
    | RuleSetSet
    | RuleSetRemoved
    | AddressSetSet
    | AddressSetRemoved
    | Synced
)
