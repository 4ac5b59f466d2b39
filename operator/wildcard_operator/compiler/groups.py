# SPDX-License-Identifier: Apache-2.0
"""The groups of addresses that a node knows, from AddressSets, and who holds which address."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from wildcard_operator.model.addresssets import AddressSet, Group
    from wildcard_operator.model.net import Address

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Members:
    """Addresses that share everything: those of a group, or those that all groups of `of` claim.

    Attributes:
        addresses: With the number of slices that list them.
    """

    group: Group | None
    of: tuple[Members, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    addresses: dict[Address, int] = field(default_factory=dict)


@dataclass(slots=True)
class Changes:
    """What one change of a slice did; an address in `moved` has another holder now, or none."""

    born: list[Members] = field(default_factory=list)
    died: list[Members] = field(default_factory=list)
    moved: list[Address] = field(default_factory=list)


class GroupStore:
    """Groups by what selectors ask for, and the holder of each address."""

    def __init__(self) -> None:
        self._groups: dict[Group, Members] = {}
        self._slices: dict[str, AddressSet] = {}
        self._by_namespace: dict[str, dict[Members, None]] = {}
        self._by_label: dict[tuple[str, str], dict[Members, None]] = {}
        self._by_port: dict[tuple[str, int], dict[Members, None]] = {}
        self._holders: dict[Address, Members] = {}
        self._shared: dict[frozenset[Members], Members] = {}

    def set_slice(self, name: str, new: AddressSet | None) -> Changes:
        """Take the slice of this name as it is now; None: it is gone."""
        changes = Changes()
        old = self._slices.pop(name, None)
        if new is not None:
            self._slices[name] = new
            self._add(new, changes)
        if old is not None:
            self._take_away(old, changes)
        return changes

    def holder(self, address: Address) -> Members | None:
        """Who holds an address."""
        return self._holders.get(address)

    @property
    def shared(self) -> Collection[Members]:
        """Holders of addresses that several groups claim."""
        return self._shared.values()

    def groups(self) -> Collection[Members]:
        """All groups."""
        return self._groups.values()

    def in_namespace(self, namespace: str) -> Collection[Members]:
        """Groups of a namespace."""
        return self._by_namespace.get(namespace, {}).keys()

    def with_label(self, key: str, value: str) -> Collection[Members]:
        """Groups with a label."""
        return self._by_label.get((key, value), {}).keys()

    def with_port(self, name: str, protocol: int) -> Collection[Members]:
        """Groups with a named port."""
        return self._by_port.get((name, protocol), {}).keys()

    def _add(self, new: AddressSet, changes: Changes) -> None:
        members = self._groups.get(new.group)
        if members is None:
            members = self._create(new.group, changes)
        for address in new.addresses:
            members.addresses[address] = members.addresses.get(address, 0) + 1
            if members.addresses[address] == 1:
                self._place(address, (*self._claims(address), members), changes)

    def _take_away(self, old: AddressSet, changes: Changes) -> None:
        members = self._groups[old.group]
        for address in old.addresses:
            members.addresses[address] -= 1
            if not members.addresses[address]:
                del members.addresses[address]
                self._place(address, tuple(m for m in self._claims(address) if m is not members), changes)
        if not members.addresses:
            self._delete(members, changes)

    def _claims(self, address: Address) -> tuple[Members, ...]:
        holder = self._holders.get(address)
        if holder is None:
            return ()
        return holder.of or (holder,)

    def _place(self, address: Address, claims: tuple[Members, ...], changes: Changes) -> None:
        """Give an address to those who claim it, in common."""
        before = self._holders.pop(address, None)
        if before is not None and before.of:
            del before.addresses[address]
            if not before.addresses:
                del self._shared[frozenset(before.of)]
                changes.died.append(before)
        if claims:
            self._holders[address] = claims[0] if len(claims) == 1 else self._share(address, claims, changes)
        changes.moved.append(address)

    def _share(self, address: Address, claims: tuple[Members, ...], changes: Changes) -> Members:
        key = frozenset(claims)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = Members(None, claims)
            changes.born.append(shared)
        shared.addresses[address] = 1
        return shared

    def _create(self, group: Group, changes: Changes) -> Members:
        members = self._groups[group] = Members(group, labels=dict(group.labels))
        _file(self._by_namespace, (group.namespace,), members)
        _file(self._by_label, group.labels, members)
        _file(self._by_port, {(port.name, port.protocol) for port in group.ports}, members)
        changes.born.append(members)
        return members

    def _delete(self, members: Members, changes: Changes) -> None:
        group = members.group
        if group is None:
            return
        del self._groups[group]
        _unfile(self._by_namespace, (group.namespace,), members)
        _unfile(self._by_label, group.labels, members)
        _unfile(self._by_port, {(port.name, port.protocol) for port in group.ports}, members)
        changes.died.append(members)


def _file(index: dict[T, dict[Members, None]], terms: Iterable[T], members: Members) -> None:
    for term in terms:
        index.setdefault(term, {})[members] = None


def _unfile(index: dict[T, dict[Members, None]], terms: Iterable[T], members: Members) -> None:
    for term in terms:
        del index[term][members]
        if not index[term]:
            del index[term]
