# SPDX-License-Identifier: Apache-2.0
"""The peer selectors that a node's rules use, and which of them a group of addresses is in.

A selector has two parts, one for the namespace and one for the pod, and both are shared by many selectors:
a group's selectors are the pairs among the parts that match it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wildcard_operator.compiler.matching import SelectorIndex
from wildcard_operator.model.objects import namespace_of
from wildcard_operator.model.rulesets import Namespaces, Pods

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wildcard_operator.compiler.classes import Key
    from wildcard_operator.compiler.groups import Members
    from wildcard_operator.model.addresssets import NamedPort
    from wildcard_operator.model.label_selectors import Selector
    from wildcard_operator.model.objects import Namespace

ALL_PODS: Final = Pods()


@dataclass(eq=False, slots=True)
class Peer:
    """A selector in use.

    Attributes:
        id: Of the selector in class keys, while rules ask who is in it.
        uses: By such rules.
        names: Named ports that egress rules ask of it, each with the number of its uses.
        ports: The ports that members have under these names, each with an id of its own in class keys.
    """

    selector: Pods
    id: int = 0
    uses: int = 0
    names: dict[tuple[str, int], int] = field(default_factory=dict)
    ports: dict[NamedPort, int] = field(default_factory=dict)


class PeerSelectors:
    """Selectors by their parts, and the labels of namespaces that they ask for."""

    def __init__(self) -> None:
        self.peers: dict[Pods, Peer] = {}
        self.peer_of_id: dict[int, Peer] = {}
        self._last_id = 0
        self._namespaces: dict[str, Namespace] = {}
        self._pod_parts: SelectorIndex[Selector] = SelectorIndex()
        self._peers_of_part: dict[Selector, dict[Namespaces, Peer]] = {}
        self._namespace_parts: SelectorIndex[Namespaces] = SelectorIndex()
        self._uses_of_namespaces: dict[Namespaces, int] = {}
        self._parts: dict[str, set[Namespaces]] = {}

    def set_namespace(self, name: str, namespace: Namespace | None) -> bool:
        """Take a namespace's labels as they are now; True where other selectors pick it than before."""
        before = self._parts_of(name)
        del self._parts[name]
        if namespace is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = namespace
        return self._parts_of(name) != before

    def add(self, selector: Pods) -> Peer:
        """Put a selector in that isn't in yet."""
        peer = self.peers[selector] = Peer(selector)
        of_part = self._peers_of_part.setdefault(selector.selector, {})
        if not of_part:
            self._pod_parts.add(selector.selector, selector.selector)
        of_part[selector.namespaces] = peer
        self._use_namespaces(selector.namespaces)
        return peer

    def remove(self, peer: Peer) -> None:
        """Take a selector out that nobody asks for any more."""
        selector = peer.selector
        del self.peers[selector]
        of_part = self._peers_of_part[selector.selector]
        del of_part[selector.namespaces]
        if not of_part:
            del self._peers_of_part[selector.selector]
            self._pod_parts.discard(selector.selector, selector.selector)
        self._unuse_namespaces(selector.namespaces)

    def new_id(self, peer: Peer) -> int:
        """An id for class keys; ids are not used twice."""
        self._last_id += 1
        self.peer_of_id[self._last_id] = peer
        return self._last_id

    def selects(self, selector: Pods, members: Members) -> bool:
        """Whether a selector in use picks a group."""
        return (
            members.group is not None
            and selector.selector.matches(members.labels)
            and selector.namespaces in self._parts_of(members.group.namespace)
        )

    def key(self, members: Members) -> Key:
        """The ids of all that holds for a group, or for addresses that several groups claim."""
        if members.of:
            return frozenset.intersection(*(self.key(one) for one in members.of))
        key: set[int] = set()
        if members.group is not None:
            parts = self._parts_of(members.group.namespace)
            for pod_part in self._pod_parts.matching(members.labels):
                peers = self._peers_of_part[pod_part]
                for part in peers if len(peers) < len(parts) else parts:
                    if part in peers and part in parts:
                        key.update(self._ids(peers[part], members.group.ports))
        return frozenset(key)

    def _ids(self, peer: Peer, ports: tuple[NamedPort, ...]) -> Iterable[int]:
        """What membership in a peer adds to a key: its id, and one for each port that is asked for.

        That an address is a pod's shows in its number already, so the selector of all pods adds nothing.
        """
        if peer.uses and peer.selector != ALL_PODS:
            yield peer.id
        if peer.names:
            for port in ports:
                if (port.name, port.protocol) in peer.names:
                    if port not in peer.ports:
                        peer.ports[port] = self.new_id(peer)
                    yield peer.ports[port]

    def _parts_of(self, namespace: str) -> set[Namespaces]:
        """The selections of namespaces, of those in use, that pick this one."""
        parts = self._parts.get(namespace)
        if parts is None:
            labels = dict(self._namespaces.get(namespace, namespace_of(namespace)).labels)
            parts = set(self._namespace_parts.matching(labels))
            named = Namespaces(namespace)
            if named in self._uses_of_namespaces:
                parts.add(named)
            self._parts[namespace] = parts
        return parts

    def _use_namespaces(self, part: Namespaces) -> None:
        uses = self._uses_of_namespaces.get(part, 0)
        self._uses_of_namespaces[part] = uses + 1
        if uses:
            return
        if part.name:
            self._parts.pop(part.name, None)
        else:
            self._namespace_parts.add(part, part.selector)
            self._parts.clear()

    def _unuse_namespaces(self, part: Namespaces) -> None:
        self._uses_of_namespaces[part] -= 1
        if self._uses_of_namespaces[part]:
            return
        del self._uses_of_namespaces[part]
        if part.name:
            self._parts.pop(part.name, None)
        else:
            self._namespace_parts.discard(part, part.selector)
            self._parts.clear()
