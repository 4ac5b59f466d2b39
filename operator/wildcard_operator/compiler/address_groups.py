# SPDX-License-Identifier: Apache-2.0
"""Pods become AddressSets: the operator's side of what selectors need to know.

Pods of one namespace with the same identity labels and named ports are a group; its addresses lie in
slices, each an AddressSet of its own, so that a pod that comes or goes writes one small object. Left out
are pods of the host's network, pods that have ended, and addresses of nodes; an address that two live pods
claim is the newer one's.

`changes` gives what to write, what adds addresses first: written in that order, an address that changes its
group is in both for a while and has what they have in common, so nothing is allowed that either state
forbids. What exists already is told by `adopt`, so a restart writes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

from wildcard_operator.model.addresssets import DEFAULT_VOLATILE_LABELS, AddressSet, Group
from wildcard_operator.model.rulesets import digest

if TYPE_CHECKING:
    from collections.abc import Collection

    from wildcard_operator.model.net import Address
    from wildcard_operator.model.objects import Node, Pod

SLICE_SIZE: Final = 64
MANY_GROUPS: Final = 1000

_PodName = tuple[str, str]


@dataclass(eq=False, slots=True)
class _Slices:
    """A group's addresses by slice. `room` are the slices that are not full."""

    group: Group
    digest: str
    slices: dict[int, dict[Address, None]] = field(default_factory=dict)
    slice_of: dict[Address, int] = field(default_factory=dict)
    room: dict[int, None] = field(default_factory=dict)

    def name(self, index: int) -> str:
        return f"{self.digest}-{index}"


class AddressGroups:
    """All pods of the cluster as AddressSets."""

    def __init__(
        self, volatile: Collection[str] = DEFAULT_VOLATILE_LABELS, slice_size: int = SLICE_SIZE
    ) -> None:
        self._volatile = frozenset(volatile)
        self._slice_size = slice_size
        self._pods: dict[_PodName, Pod] = {}
        self._claims: dict[Address, dict[_PodName, Pod]] = {}
        self._host_addresses: dict[str, frozenset[Address]] = {}
        self._hosts: dict[Address, int] = {}
        self._groups: dict[Group, _Slices] = {}
        self._group_of: dict[Address, _Slices] = {}
        self._adopted: dict[tuple[str, Address], int] = {}
        self._adopting = False
        self._published: dict[str, AddressSet] = {}
        self._living: dict[str, tuple[_Slices, int]] = {}
        self._dirty: dict[str, None] = {}

    def set_pod(self, pod: Pod) -> None:
        """Take a pod as it is now."""
        key = pod.namespace, pod.name
        old = self._pods.get(key)
        if old == pod:
            return
        self._pods[key] = pod
        before = set() if old is None else _addresses(old)
        after = _addresses(pod)
        for address in before - after:
            self._unclaim(address, key)
        for address in after:
            self._claims.setdefault(address, {})[key] = pod
        for address in before | after:
            self._place(address)

    def remove_pod(self, namespace: str, name: str) -> None:
        """A pod is gone."""
        old = self._pods.pop((namespace, name), None)
        if old is not None:
            for address in _addresses(old):
                self._unclaim(address, (namespace, name))
                self._place(address)

    def set_node(self, name: str, node: Node | None) -> None:
        """Take a node's addresses as they are now; None: the node is gone."""
        before = self._host_addresses.pop(name, frozenset())
        after = frozenset(node.addresses) if node is not None else frozenset()
        if after:
            self._host_addresses[name] = after
        for address in after - before:
            self._hosts[address] = self._hosts.get(address, 0) + 1
        for address in before - after:
            self._hosts[address] -= 1
            if not self._hosts[address]:
                del self._hosts[address]
        for address in before ^ after:
            self._place(address)

    def adopt(self, name: str, published: AddressSet) -> None:
        """An AddressSet that exists already, told before the pods are: addresses keep their slices."""
        self._adopting = True
        self._published[name] = published
        prefix, _, index = name.rpartition("-")
        if index.isdecimal():
            self._adopted.update({(prefix, address): int(index) for address in published.addresses})

    def changes(self) -> dict[str, AddressSet | None]:
        """AddressSets to write, None to delete, since the last call; those with additions come first."""
        names, self._dirty = self._dirty, {}
        if self._adopting:
            names.update(dict.fromkeys(self._published.keys() - self._living.keys()))
            self._adopting = False
            self._adopted.clear()
        growing: dict[str, AddressSet | None] = {}
        shrinking: dict[str, AddressSet | None] = {}
        for name in names:
            old, new = self._published.get(name), self._current(name)
            if new == old:
                continue
            if new is None:
                shrinking[name] = None
                del self._published[name]
                continue
            grows = old is None or not set(new.numbers) <= set(old.numbers)
            (growing if grows else shrinking)[name] = new
            self._published[name] = new
        return growing | shrinking

    def splitting_labels(self, limit: int = MANY_GROUPS) -> dict[str, int]:
        """Labels that make more than `limit` groups of one pod, with their number: candidates for the
        volatile."""
        uses = Counter(label for group in self._groups for label in group.labels)
        single = Counter(
            label[0]
            for group, slices in self._groups.items()
            if len({address.family for address in slices.slice_of}) == len(slices.slice_of)
            for label in group.labels
            if uses[label] == 1
        )
        return {key: count for key, count in sorted(single.items()) if count > limit}

    def _current(self, name: str) -> AddressSet | None:
        if name not in self._living:
            return None
        slices, index = self._living[name]
        return AddressSet(slices.group, tuple(sorted(slices.slices[index])))

    def _unclaim(self, address: Address, key: _PodName) -> None:
        claims = self._claims[address]
        del claims[key]
        if not claims:
            del self._claims[address]

    def _place(self, address: Address) -> None:
        """Put an address where its owner belongs."""
        before = self._group_of.get(address)
        after = self._wanted(address)
        if before is after:
            return
        if after is not None:
            self._put(after, address)
        if before is not None:
            self._take_out(before, address)

    def _wanted(self, address: Address) -> _Slices | None:
        claims = self._claims.get(address)
        if not claims or address in self._hosts:
            return None
        owner = max(claims.values(), key=lambda pod: pod.age)
        labels = tuple(label for label in owner.labels if label[0] not in self._volatile)
        group = Group(owner.namespace, labels, owner.ports)
        slices = self._groups.get(group)
        if slices is None:
            text = [f"{key}={value}" for key, value in group.labels]
            text += ["", *(f"{port.name}/{port.protocol}/{port.port}" for port in group.ports)]
            slices = self._groups[group] = _Slices(group, digest(group.namespace, *text))
        return slices

    def _put(self, slices: _Slices, address: Address) -> None:
        index = self._adopted.get((slices.digest, address))
        if index is None or len(slices.slices.get(index, ())) >= self._slice_size:
            index = next(iter(slices.room), None)
        if index is None:
            index = next(number for number in count() if number not in slices.slices)
        addresses = slices.slices.setdefault(index, {})
        addresses[address] = None
        slices.slice_of[address] = index
        self._group_of[address] = slices
        self._living[slices.name(index)] = slices, index
        self._note(slices, index)

    def _take_out(self, slices: _Slices, address: Address) -> None:
        index = slices.slice_of.pop(address)
        del slices.slices[index][address]
        if self._group_of.get(address) is slices:
            del self._group_of[address]
        self._note(slices, index)
        if not slices.slices[index]:
            del slices.slices[index], self._living[slices.name(index)]
            slices.room.pop(index, None)
        if not slices.slices:
            del self._groups[slices.group]

    def _note(self, slices: _Slices, index: int) -> None:
        self._dirty[slices.name(index)] = None
        if len(slices.slices[index]) < self._slice_size:
            slices.room[index] = None
        else:
            slices.room.pop(index, None)


def _addresses(pod: Pod) -> set[Address]:
    """The addresses that selectors may see in a pod."""
    return set() if pod.host_network or pod.terminal else set(pod.addresses)
