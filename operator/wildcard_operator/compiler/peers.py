# SPDX-License-Identifier: Apache-2.0
"""Who is whose peer on one node: groups of addresses, the selectors in use, and the classes that these tell
apart.

A class holds all groups that are in the same selectors and give the ports that egress rules name the same
numbers: two classes always differ for some rule. Groups that are in nothing have class 0, unless a rule
    speaks of
all pods. An address in several groups (a pod was relabelled, an address changes hands) has what they have in
common.

A change touches the groups that it concerns alone, and moves as few addresses as it can to another number:
where a whole class changes, it keeps its number and only its key is another.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wildcard_operator.compiler.classes import ClassPrefix, Covers, Key, Numbers
from wildcard_operator.compiler.groups import Changes, GroupStore, Members
from wildcard_operator.compiler.matching import needed_terms
from wildcard_operator.compiler.peer_selectors import ALL_PODS, Peer, PeerSelectors
from wildcard_operator.model.entries import ANY_POD
from wildcard_operator.model.label_selectors import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from wildcard_operator.model.addresssets import AddressSet
    from wildcard_operator.model.objects import Namespace
    from wildcard_operator.model.rulesets import Pods

_NOTHING: Final[Key] = frozenset()


@dataclass(eq=False, slots=True)
class _Class:
    key: Key
    number: int
    holders: set[Members] = field(default_factory=set)


class PeerTable:
    """The peers of one node's rules, and the class of every address."""

    def __init__(self) -> None:
        self._groups = GroupStore()
        self._selectors = PeerSelectors()
        self._numbers = Numbers()
        self._covers = Covers()
        self._nobody = _Class(_NOTHING, 0)
        self._classes: dict[Key, _Class] = {_NOTHING: self._nobody}
        self._class_of: dict[Members, _Class] = {}
        self._classes_in: dict[int, set[_Class]] = {}
        self._former: dict[int, int] = {}  # of addresses whose class may have changed, its number before
        self._changed: set[Pods] = set()

    # Addresses and namespaces

    def set_slice(self, name: str, new: AddressSet | None) -> None:
        """Take the AddressSet of this name as it is now; None: it is gone."""
        changes = self._groups.set_slice(name, new)
        for number, before in changes.moved.items():
            self._former.setdefault(number, 0 if before is None else self._class_of[before].number)
        self._apply(changes)

    def set_namespace(self, name: str, namespace: Namespace | None) -> None:
        """Take a namespace's labels as they are now; None: its object is gone."""
        if self._selectors.set_namespace(name, namespace):
            groups = list(self._groups.in_namespace(name))
            self._assign([(members, self._selectors.key(members)) for members in groups])

    def class_of(self, number: int) -> int:
        """The class of an address by its `number`; 0 where no selector picks it."""
        holder = self._groups.holders.get(number)
        return 0 if holder is None else self._class_of[holder].number

    def addresses(self) -> Iterator[tuple[int, int]]:
        """All addresses that have a class, by `number`, with it."""
        found = ((number, self._class_of[holder].number) for number, holder in self._groups.holders.items())
        return (pair for pair in found if pair[1])

    # Selectors in use

    def use(self, selector: Pods) -> None:
        """A rule asks who is in this peer; each use is given back by one `unuse`."""
        peer = self._selectors.peers.get(selector) or self._selectors.add(selector)
        peer.uses += 1
        if peer.uses > 1:
            return
        if selector == ALL_PODS:
            self._number_nobody(self._numbers.take(_NOTHING))
        else:
            peer.id = self._selectors.new_id(peer)
            self._gain(peer.id, self._selected(selector))

    def unuse(self, selector: Pods) -> None:
        """A rule asks for this peer no more."""
        peer = self._selectors.peers[selector]
        peer.uses -= 1
        if peer.uses:
            return
        if selector == ALL_PODS:
            self._numbers.give_back(self._nobody.number)
            self._number_nobody(0)
        else:
            self._lose(peer.id)
        self._drop_peer_if_unused(peer)

    def use_name(self, selector: Pods, name: str, protocol: int) -> None:
        """An egress rule asks for this named port of a peer; each use is given back by one `unuse_name`."""
        peer = self._selectors.peers.get(selector) or self._selectors.add(selector)
        uses = peer.names.get((name, protocol), 0)
        peer.names[name, protocol] = uses + 1
        if uses:
            return
        groups = [g for g in self._groups.with_port(name, protocol) if self._selectors.selects(selector, g)]
        self._assign([(members, self._selectors.key(members)) for members in groups])

    def unuse_name(self, selector: Pods, name: str, protocol: int) -> None:
        """An egress rule asks for it no more."""
        peer = self._selectors.peers[selector]
        peer.names[name, protocol] -= 1
        if peer.names[name, protocol]:
            return
        del peer.names[name, protocol]
        for port in [port for port in peer.ports if port[:2] == (name, protocol)]:
            self._lose(peer.ports.pop(port))
        self._drop_peer_if_unused(peer)

    def cover(self, selector: Pods) -> tuple[ClassPrefix, ...]:
        """The class prefixes of a peer in use, as of the last `refresh`."""
        if selector == ALL_PODS:
            return (ANY_POD,)
        return self._covers.cover(self._selectors.peers[selector].id)

    def named(self, selector: Pods, name: str, protocol: int) -> list[tuple[int, ClassPrefix]]:
        """Under which numbers which of a peer's classes know a named port, as of the last `refresh`."""
        ports = self._selectors.peers[selector].ports
        return [
            (port.port, prefix)
            for port in sorted(ports)
            if port[:2] == (name, protocol)
            for prefix in self._covers.cover(ports[port])
        ]

    def refresh(self) -> tuple[set[Pods], dict[int, int]]:
        """Peers whose class prefixes changed, and addresses whose class may have, with the one that each had
        at the last call.
        """
        for member in self._covers.refresh():
            if member in self._selectors.peer_of_id:
                self._changed.add(self._selectors.peer_of_id[member].selector)
        changed, former = self._changed, self._former
        self._changed, self._former = set(), {}
        return changed, former

    def classes(self) -> dict[int, Key]:
        """The living classes by number, with what tells them apart; for tests and dumps."""
        return {c.number: c.key for c in self._classes.values() if c.number and c.holders}

    # Peers that come and go

    def _drop_peer_if_unused(self, peer: Peer) -> None:
        if not peer.uses and not peer.names:
            self._selectors.remove(peer)

    def _number_nobody(self, number: int) -> None:
        """Groups that are in nothing need a class of their own only while some rule speaks of all pods."""
        if self._nobody.number:
            self._covers.died(self._nobody.number, _NOTHING)
        for holder in self._nobody.holders:
            self._note(holder, self._nobody.number)
        self._nobody.number = number
        if number:
            self._covers.born(number, _NOTHING)

    def _note(self, holder: Members, former: int) -> None:
        """The addresses of a holder are about to leave the class of this number."""
        for number in holder.addresses:
            self._former.setdefault(number, former)

    def _selected(self, selector: Pods) -> list[Members]:
        """Groups that a selector picks, found by the narrowest index that it allows."""
        return [
            members for members in self._candidates(selector) if self._selectors.selects(selector, members)
        ]

    def _candidates(self, selector: Pods) -> Iterable[Members]:
        choices: list[Collection[Members]] = [self._groups.groups()]
        if selector.namespaces.name:
            choices.append(self._groups.in_namespace(selector.namespaces.name))
        terms = needed_terms(selector.selector)
        if terms and terms[0][1] is not None:
            labelled = (self._groups.with_label(key, value) for key, value in terms if value is not None)
            choices.append([members for groups in labelled for members in groups])
        return min(choices, key=len)

    # Classes

    def _apply(self, changes: Changes) -> None:
        """Holders are born into class 0; one that lived only in the middle of the change goes at once."""
        for members in changes.born:
            self._class_of[members] = self._nobody
            self._nobody.holders.add(members)
        for members in changes.died:
            self._leave(members)
        living = [members for members in changes.born if members in self._class_of]
        self._assign([(members, self._selectors.key(members)) for members in living])

    def _leave(self, members: Members) -> None:
        klass = self._class_of.pop(members)
        klass.holders.discard(members)
        self._drop_if_unused(klass)

    def _gain(self, member: int, groups: Iterable[Members]) -> None:
        self._assign((members, self._class_of[members].key | {member}) for members in groups)

    def _lose(self, member: int) -> None:
        """Nobody is in this any more: its classes go without, or join the class that says the same."""
        del self._selectors.peer_of_id[member]
        for klass in list(self._classes_in.get(member, ())):
            self._move(klass, list(klass.holders), klass.key - {member})

    def _assign(self, wanted: Iterable[tuple[Members, Key]]) -> None:
        moves: dict[tuple[_Class, Key], list[Members]] = defaultdict(list)
        for members, key in wanted:
            klass = self._class_of[members]
            if key != klass.key:
                moves[klass, key].append(members)
        for (_, key), holders in moves.items():
            # They still are in one class, but in another one where a move before took its number.
            self._move(self._class_of[holders[0]], holders, key)
        if moves:
            self._assign_shared()

    def _assign_shared(self) -> None:
        """What groups have in common follows from their keys; seldom are there any such addresses."""
        shared = [
            (m, frozenset.intersection(*(self._class_of[g].key for g in m.of))) for m in self._groups.shared
        ]
        if any(self._class_of[members].key != key for members, key in shared):
            self._assign(shared)

    def _move(self, klass: _Class, holders: list[Members], key: Key) -> None:
        """Give some of a class's holders another key; as many as possible keep their number."""
        target = self._classes.get(key)
        if target is None and klass is not self._nobody:
            if len(holders) == len(klass.holders):
                self._rekey(klass, key)
                return
            if 2 * len(holders) > len(klass.holders):
                old_key, staying = klass.key, klass.holders.difference(holders)
                self._rekey(klass, key)
                holders, target = list(staying), self._create(old_key)
        if target is None:
            target = self._create(key)
        for members in holders:
            klass.holders.discard(members)
            target.holders.add(members)
            self._class_of[members] = target
            self._note(members, klass.number)
        self._drop_if_unused(klass)

    def _create(self, key: Key) -> _Class:
        broad = frozenset(
            member for member in key if self._selectors.peer_of_id[member].selector.selector == EVERYTHING
        )
        klass = self._classes[key] = _Class(key, self._numbers.take(broad))
        for member in key:
            self._classes_in.setdefault(member, set()).add(klass)
        self._covers.born(klass.number, key)
        return klass

    def _rekey(self, klass: _Class, key: Key) -> None:
        lost, gained = klass.key - key, key - klass.key
        self._forget(klass, lost)
        for member in gained:
            self._classes_in.setdefault(member, set()).add(klass)
        self._covers.lose(klass.number, lost)
        self._covers.gain(klass.number, gained)
        del self._classes[klass.key]
        klass.key = key
        self._classes[key] = klass

    def _drop_if_unused(self, klass: _Class) -> None:
        if klass.holders or klass is self._nobody or self._classes.get(klass.key) is not klass:
            return
        del self._classes[klass.key]
        self._forget(klass, klass.key)
        self._covers.died(klass.number, klass.key)
        self._numbers.give_back(klass.number)

    def _forget(self, klass: _Class, members: Iterable[int]) -> None:
        for member in members:
            classes = self._classes_in[member]
            classes.discard(klass)
            if not classes:
                del self._classes_in[member]
