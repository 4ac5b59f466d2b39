# SPDX-License-Identifier: Apache-2.0
"""The scopes of a node: found by what they are made of, made, changed in place and let go.

Bundles are only divided while events come in; `settle`, once the delta is made, joins those that have come
to be in the same scopes.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING, Final

from wildcard_operator.compiler.scopes import Bundle, Choice, Scope, Source, Step
from wildcard_operator.model.entries import SCOPE_SPACE_SHIFT, ScopeSpace

if TYPE_CHECKING:
    from collections.abc import Collection

    from wildcard_operator.model.addresssets import NamedPort


_BUNDLE_LIMIT: Final = 512
"""Sources in a bundle: a scope has few bundles, and a source that changes has few others beside it."""


class ScopeTable:
    """The scopes of a node, and what happened to them since the last delta.

    Attributes:
        born, dead: Scopes.
        bundles: All of them.
        moved: Those that are in other scopes than was told, or hold other sources.
        dirty: Sources whose entries have to be worked out again where they stay.
        touched: Sources that may have come into their first scope, have left their last one, or changed.
    """

    def __init__(self) -> None:
        self._by_signature: dict[tuple[object, ...], list[Scope]] = {}
        self._roomy: dict[frozenset[Scope], Bundle] = {}
        self._next = dict.fromkeys(ScopeSpace, 1)
        self._free: dict[ScopeSpace, list[int]] = {space: [] for space in ScopeSpace}
        self.living: set[Scope] = set()
        self.dead: set[Scope] = set()
        self.born: set[Scope] = set()
        self.bundles: set[Bundle] = set()
        self.moved: set[Bundle] = set()
        self.dirty: set[Source] = set()
        self.touched: set[Source] = set()

    def find(self, step: Step, namespace: str, chosen: Choice, ports: frozenset[NamedPort]) -> Scope | None:
        """The scope of exactly this, if there is one."""
        candidates = self._by_signature.get((step, namespace, chosen.fingerprint, ports), ())
        return next((scope for scope in candidates if chosen.equals(scope)), None)

    def create(self, step: Step, namespace: str, chosen: Choice, ports: frozenset[NamedPort]) -> Scope:
        """A new scope; nothing holds it yet."""
        left_out = self._carve(step, chosen.removed)
        shared = [] if chosen.base is None else list(chosen.base.bundles.difference(left_out))
        scope = Scope(
            self._number(step.space), step, namespace, chosen.fingerprint, chosen.port_names(step), ports
        )
        for bundle in (*shared, *self._carve(step, chosen.added)):
            self._join(scope, bundle)
        self.living.add(scope)
        self.born.add(scope)
        self._file(scope)
        return scope

    def release(self, scope: Scope, holder: object) -> None:
        """One holder less; without any the scope is gone."""
        scope.holders.discard(holder)
        if scope.holders:
            return
        self._unfile(scope)
        self.living.discard(scope)
        self.born.discard(scope)
        self.dead.add(scope)
        for bundle in list(scope.bundles):
            self._part(scope, bundle)

    def change(self, scope: Scope, source: Source, *, add: bool) -> None:
        """Put a source in a scope or take it out; all who hold the scope go along."""
        self._unfile(scope)
        for bundle in self._carve(scope.step, [source]):
            (self._join if add else self._part)(scope, bundle)
        names = Counter(source.names_at(scope.step))
        scope.port_names = scope.port_names + names if add else scope.port_names - names
        scope.fingerprint ^= hash(source.name)
        self._file(scope)

    def set_ports(self, scope: Scope, ports: frozenset[NamedPort]) -> None:
        """The named ports of a scope's pods resolve otherwise, perhaps."""
        if ports == scope.ports:
            return
        changed = {(port.name, port.protocol) for port in scope.ports ^ ports}
        self._unfile(scope)
        scope.ports = ports
        self._file(scope)
        self.dirty.update(source for source in scope.sources() if changed & source.names_at(scope.step))

    def changed(self, source: Source) -> None:
        """The rules of a source are others."""
        self.touched.add(source)
        self.dirty.add(source)

    def recount(self, scope: Scope) -> None:
        """Take the named ports of a scope from its sources again: one of them was changed."""
        scope.port_names = Counter(n for source in scope.sources() for n in source.names_at(scope.step))

    def take_dead(self) -> set[Scope]:
        """Scopes gone since the last call; their numbers are free from now on."""
        dead, self.dead = self.dead, set()
        for scope in dead:
            heapq.heappush(self._free[scope.step.space], scope.number & ((1 << SCOPE_SPACE_SHIFT) - 1))
        return dead

    def settle(self) -> None:
        """All has been told."""
        moved, self.moved = self.moved, set()
        for bundle in moved:
            if self._roomy.get(bundle.told) is bundle:
                del self._roomy[bundle.told]
        for bundle in moved:
            bundle.told = frozenset(bundle.scopes)
            if bundle.told:
                self._merge(bundle, self._roomy.get(bundle.told, bundle))
            else:
                self.bundles.discard(bundle)
                for source in bundle.sources:
                    del source.bundles[bundle.step]

    def _merge(self, one: Bundle, other: Bundle) -> None:
        """Make bundles of the same scopes one, if there is room, and file the one that has some."""
        large, small = (one, other) if len(one.sources) > len(other.sources) else (other, one)
        if small is large or len(large.sources) + len(small.sources) > _BUNDLE_LIMIT:
            self._roomy[small.told] = small
            return
        self._roomy[large.told] = large
        self.bundles.discard(small)
        large.sources |= small.sources
        large.rows = None if large.rows is None or small.rows is None else large.rows + small.rows
        for source in small.sources:
            source.bundles[large.step] = large
        for scope in small.scopes:
            scope.bundles.discard(small)

    def _carve(self, step: Step, sources: Collection[Source]) -> list[Bundle]:
        """Bundles of these sources and no others."""
        parts: dict[Bundle | None, set[Source]] = {}
        for source in sources:
            parts.setdefault(source.bundles.get(step), set()).add(source)
        return [self._divide(step, bundle, part) for bundle, part in parts.items()]

    def _divide(self, step: Step, bundle: Bundle | None, part: set[Source]) -> Bundle:
        if bundle is not None and len(bundle.sources) == len(part):
            return bundle
        carved = Bundle(step, part)
        if bundle is not None:
            bundle.sources -= part
            bundle.rows = None
            carved.scopes |= bundle.scopes
            carved.told = bundle.told
        for scope in carved.scopes:
            scope.bundles.add(carved)
        for source in part:
            source.bundles[step] = carved
        self.bundles.add(carved)
        self.moved.add(carved)
        return carved

    def _join(self, scope: Scope, bundle: Bundle) -> None:
        if not bundle.scopes:
            self.touched |= bundle.sources
        bundle.scopes.add(scope)
        scope.bundles.add(bundle)
        scope.size += len(bundle.sources)
        self.moved.add(bundle)

    def _part(self, scope: Scope, bundle: Bundle) -> None:
        bundle.scopes.discard(scope)
        scope.bundles.discard(bundle)
        scope.size -= len(bundle.sources)
        self.moved.add(bundle)
        if not bundle.scopes:
            self.touched |= bundle.sources

    def _number(self, space: ScopeSpace) -> int:
        if self._free[space]:
            place = heapq.heappop(self._free[space])
        else:
            place = self._next[space]
            self._next[space] += 1
        return space << SCOPE_SPACE_SHIFT | place

    def _file(self, scope: Scope) -> None:
        self._by_signature.setdefault(scope.signature, []).append(scope)

    def _unfile(self, scope: Scope) -> None:
        filed = self._by_signature[scope.signature]
        filed.remove(scope)
        if not filed:
            del self._by_signature[scope.signature]
