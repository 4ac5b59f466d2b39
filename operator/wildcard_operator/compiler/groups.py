# SPDX-License-Identifier: Apache-2.0
"""The groups of addresses that a node knows, from AddressSets, and who holds which address.

A node may know a hundred thousand addresses in twenty thousand groups. So in here an address is its
`number`, one object in all tables, and what is empty or alone has no container of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from wildcard_operator.model.addresssets import AddressSet, Group

T = TypeVar("T")
Numbers = tuple[int, ...]


@dataclass(eq=False, slots=True)
class Members:
    """Addresses that share everything: those of a group, or those that all groups of `of` claim.

    Attributes:
        slices: The numbers of the addresses, as they are listed slice by slice.
    """

    group: Group | None
    of: tuple[Members, ...] = ()
    slices: tuple[Numbers, ...] = ()

    @property
    def addresses(self) -> Iterator[int]:
        """The numbers of the addresses; one that two slices list comes twice."""
        return chain.from_iterable(self.slices)

    @property
    def labels(self) -> dict[str, str]:
        """What selectors look at."""
        return dict(self.group.labels) if self.group is not None else {}

    def drop(self, listed: Numbers) -> None:
        """Take a slice out."""
        at = self.slices.index(listed)
        self.slices = self.slices[:at] + self.slices[at + 1 :]


@dataclass(slots=True)
class Changes:
    """What one change of a slice did.

    Attributes:
        moved: Addresses that may have another holder now, or none, with the one of before.
    """

    born: list[Members] = field(default_factory=list)
    died: list[Members] = field(default_factory=list)
    moved: dict[int, Members | None] = field(default_factory=dict)


class Index(Generic[T]):
    """Groups by a term. Most labels are one group's alone: that one stands there itself."""

    def __init__(self) -> None:
        self._found: dict[T, Members | dict[Members, None]] = {}

    def __getitem__(self, term: T) -> Collection[Members]:
        found = self._found.get(term, {})
        return found.keys() if isinstance(found, dict) else (found,)

    def add(self, terms: Iterable[T], members: Members) -> None:
        """File a group under terms where it isn't yet."""
        for term in terms:
            found = self._found.setdefault(term, members)
            if isinstance(found, dict):
                found[members] = None
            elif found is not members:
                self._found[term] = {found: None, members: None}

    def discard(self, terms: Iterable[T], members: Members) -> None:
        """Take a group out from under terms where it is."""
        for term in terms:
            found = self._found[term]
            if isinstance(found, dict):
                del found[members]
            if found is members or not found:
                del self._found[term]


class GroupStore:
    """Groups by what selectors ask for, and the holder of each address."""

    def __init__(self) -> None:
        self._groups: dict[Group, Members] = {}
        self._slices: dict[str, tuple[Members, Numbers]] = {}
        self._by_namespace: Index[str] = Index()
        self._by_label: Index[tuple[str, str]] = Index()
        self._by_port: Index[tuple[str, int]] = Index()
        self._holders: dict[int, Members] = {}
        self._repeats: Counter[tuple[int, Members]] = Counter()  # in how many more slices of its group it is
        self._shared: dict[frozenset[Members], Members] = {}

    def set_slice(self, name: str, new: AddressSet | None) -> Changes:
        """Take the slice of this name as it is now; None: it is gone."""
        changes = Changes()
        old, had = self._slices.pop(name, (None, ()))
        members: Members | None = None
        has: Numbers = ()
        if new is not None:
            members = self._groups.get(new.group) or self._create(new.group, changes)
            has = _once(new.numbers, had)
            members.slices += (has,)
            self._slices[name] = members, has
            for number in _but(has, had if members is old else ()):
                self._claim(number, members, changes)
        if old is not None:
            old.drop(had)
            for number in _but(had, has if members is old else ()):
                self._give_up(number, old, changes)
            if not old.slices:
                self._delete(old, changes)
        return changes

    @property
    def holders(self) -> Mapping[int, Members]:
        """Who holds an address."""
        return self._holders

    @property
    def shared(self) -> Collection[Members]:
        """Holders of addresses that several groups claim."""
        return self._shared.values()

    def groups(self) -> Collection[Members]:
        """All groups."""
        return self._groups.values()

    def in_namespace(self, namespace: str) -> Collection[Members]:
        """Groups of a namespace."""
        return self._by_namespace[namespace]

    def with_label(self, key: str, value: str) -> Collection[Members]:
        """Groups with a label."""
        return self._by_label[key, value]

    def with_port(self, name: str, protocol: int) -> Collection[Members]:
        """Groups with a named port."""
        return self._by_port[name, protocol]

    def _claim(self, number: int, members: Members, changes: Changes) -> None:
        claims = self._claims(number)
        if members in claims:
            self._repeats[number, members] += 1
        else:
            self._place(number, (*claims, members), changes)

    def _give_up(self, number: int, members: Members, changes: Changes) -> None:
        if self._repeats[number, members] > 1:
            self._repeats[number, members] -= 1
        elif self._repeats.pop((number, members), 0) == 0:
            self._place(number, tuple(one for one in self._claims(number) if one is not members), changes)

    def _claims(self, number: int) -> tuple[Members, ...]:
        holder = self._holders.get(number)
        if holder is None:
            return ()
        return holder.of or (holder,)

    def _place(self, number: int, claims: tuple[Members, ...], changes: Changes) -> None:
        """Give an address to those who claim it, in common."""
        before = self._holders.pop(number, None)
        if before is not None and before.of:
            before.drop((number,))
            if not before.slices:
                del self._shared[frozenset(before.of)]
                changes.died.append(before)
        if claims:
            self._holders[number] = claims[0] if len(claims) == 1 else self._share(number, claims, changes)
        changes.moved.setdefault(number, before)

    def _share(self, number: int, claims: tuple[Members, ...], changes: Changes) -> Members:
        key = frozenset(claims)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = Members(None, claims)
            changes.born.append(shared)
        shared.slices += ((number,),)
        return shared

    def _create(self, group: Group, changes: Changes) -> Members:
        members = self._groups[group] = Members(group)
        self._by_namespace.add((group.namespace,), members)
        self._by_label.add(group.labels, members)
        self._by_port.add({(port.name, port.protocol) for port in group.ports}, members)
        changes.born.append(members)
        return members

    def _delete(self, members: Members, changes: Changes) -> None:
        group = members.group
        if group is None:
            return
        del self._groups[group]
        self._by_namespace.discard((group.namespace,), members)
        self._by_label.discard(group.labels, members)
        self._by_port.discard({(port.name, port.protocol) for port in group.ports}, members)
        changes.died.append(members)


def _once(numbers: Numbers, known: Numbers) -> Numbers:
    """Each number once; for one that is known, the same object."""
    same = dict(zip(known, known, strict=True))
    return tuple(same.get(number, number) for number in dict.fromkeys(numbers))


def _but(numbers: Numbers, others: Numbers) -> Iterable[int]:
    left_out = set(others)
    return [number for number in numbers if number not in left_out]
