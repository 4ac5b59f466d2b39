# SPDX-License-Identifier: Apache-2.0
"""The node's own pods: their addresses, who owns an address, and what is known of pods without one.

A pod keeps its scopes until its object and its route are both gone: `kubectl delete --force` removes the
object of a pod that goes on running. An address that two pods claim belongs to the newer one, and to a pod
that is there before one that has gone.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wildcard_operator.model.entries import LocalPod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wildcard_operator.compiler.selection import Profile, Selection
    from wildcard_operator.model.net import Address
    from wildcard_operator.model.objects import Pod


@dataclass(eq=False, slots=True)
class Local:
    """A pod of this node. `gone`: its object is no more, or it has ended; its route may still be there."""

    pod: Pod
    number: int
    profile: Profile
    addresses: tuple[Address, ...] = ()
    gone: bool = False

    @property
    def claim(self) -> tuple[bool, tuple[str, str, str, str]]:
        """Of two that claim one address, the greater has it."""
        return not self.gone, self.pod.age


class LocalPods:
    """The pods of one node, by name and by address."""

    def __init__(self, node: str, selection: Selection) -> None:
        self._node = node
        self._selection = selection
        self._by_name: dict[tuple[str, str], Local] = {}
        self._gone: dict[Local, None] = {}
        self._by_address: dict[Address, list[Local]] = {}
        self._by_profile: dict[Profile, dict[Local, None]] = {}
        self._without_address: dict[Local, None] = {}
        self._routes: frozenset[Address] = frozenset()
        self._free: list[int] = []
        self._last = 0
        self._described: dict[int, LocalPod] = {}
        self._changed: set[int] = set()
        self._families: dict[int, int] = {}
        self.dirty: set[Address] = set()

    def set_pod(self, pod: Pod) -> None:
        """Take a pod as it is now."""
        if pod.node != self._node or pod.host_network or pod.terminal:
            self.remove_pod(pod.namespace, pod.name)
            return
        name = pod.namespace, pod.name
        local = self._by_name.get(name)
        if local is not None and local.pod.uid != pod.uid:
            self._depart(local)
            local = None
        if local is None:
            local = self._by_name[name] = self._arrive(pod)
        elif (local.pod.labels, local.pod.ports) != (pod.labels, pod.ports):
            self._change_profile(local, pod)
        local.pod = pod
        self._set_addresses(local, (*pod.addresses, *self._routed(local, pod.addresses)))

    def remove_pod(self, namespace: str, name: str) -> None:
        """A pod's object is gone, or speaks of no pod of this node's network any more."""
        local = self._by_name.get((namespace, name))
        if local is not None:
            self._depart(local)

    def set_routes(self, routes: frozenset[Address]) -> None:
        """Take the addresses with a route to a pod of this node, all of them."""
        self._routes = routes
        for local in list(self._gone):
            self._set_addresses(local, tuple(address for address in local.addresses if address in routes))
            if not local.addresses:
                self._forget(local)
        for local in self._by_name.values():
            self._set_addresses(local, (*local.pod.addresses, *self._routed(local, local.pod.addresses)))

    def owner(self, address: Address) -> Local | None:
        """The pod that has an address."""
        return max(self._by_address.get(address, ()), key=lambda local: local.claim, default=None)

    def touch(self, profile: Profile) -> None:
        """The scopes of a profile are others: so are the rows of its pods."""
        for local in self._by_profile.get(profile, ()):
            self.dirty.update(local.addresses)

    def families(self) -> frozenset[int]:
        """Families in which pods of this node have addresses."""
        return frozenset(self._families)

    def awaiting_address(self) -> Iterator[Local]:
        """Pods whose address the API does not know yet."""
        yield from self._without_address

    def descriptions(self) -> dict[int, LocalPod]:
        """All pods by number."""
        return dict(self._described)

    def take_changes(self) -> tuple[dict[int, LocalPod], tuple[int, ...]]:
        """Pods set and removed since the last call; numbers removed may be used again after it."""
        changed, self._changed = self._changed, set()
        removed = tuple(sorted(number for number in changed if number not in self._described))
        for number in removed:
            heapq.heappush(self._free, number)
        return {n: self._described[n] for n in sorted(changed) if n in self._described}, removed

    def _routed(self, local: Local, but: tuple[Address, ...]) -> list[Address]:
        return [address for address in local.addresses if address in self._routes and address not in but]

    def _arrive(self, pod: Pod) -> Local:
        number = heapq.heappop(self._free) if self._free else self._last + 1
        self._last = max(self._last, number)
        local = Local(pod, number, self._selection.join(pod))
        self._by_profile.setdefault(local.profile, {})[local] = None
        self._without_address[local] = None
        return local

    def _depart(self, local: Local) -> None:
        del self._by_name[local.pod.namespace, local.pod.name]
        local.gone = True
        self._without_address.pop(local, None)
        self._set_addresses(local, tuple(address for address in local.addresses if address in self._routes))
        if local.addresses:
            self._gone[local] = None
            self.dirty.update(local.addresses)
        else:
            self._forget(local)

    def _forget(self, local: Local) -> None:
        self._gone.pop(local, None)
        self._leave_profile(local)
        if self._described.pop(local.number, None) is not None:
            self._changed.add(local.number)

    def _change_profile(self, local: Local, pod: Pod) -> None:
        profile = self._selection.join(pod)
        self._leave_profile(local)
        local.profile = profile
        self._by_profile.setdefault(profile, {})[local] = None
        self.dirty.update(local.addresses)

    def _leave_profile(self, local: Local) -> None:
        del self._by_profile[local.profile][local]
        if not self._by_profile[local.profile]:
            del self._by_profile[local.profile]
        self._selection.leave(local.profile)

    def _set_addresses(self, local: Local, addresses: tuple[Address, ...]) -> None:
        for address in local.addresses:
            if address not in addresses:
                self._disown(local, address)
        for address in addresses:
            if address not in local.addresses:
                self._by_address.setdefault(address, []).append(local)
                self._families[address.family] = self._families.get(address.family, 0) + 1
                self.dirty.add(address)
        local.addresses = addresses
        if not local.gone:
            if addresses:
                self._without_address.pop(local, None)
            else:
                self._without_address[local] = None
        self._describe(local)

    def _disown(self, local: Local, address: Address) -> None:
        claims = self._by_address[address]
        claims.remove(local)
        if not claims:
            del self._by_address[address]
        self._families[address.family] -= 1
        if not self._families[address.family]:
            del self._families[address.family]
        self.dirty.add(address)

    def _describe(self, local: Local) -> None:
        pod = local.pod
        description = LocalPod(pod.namespace, pod.name, pod.uid, local.addresses)
        if self._described.get(local.number) != description:
            self._described[local.number] = description
            self._changed.add(local.number)
