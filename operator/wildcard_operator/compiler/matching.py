# SPDX-License-Identifier: Apache-2.0
"""Which of many selectors match a set of labels, without asking all of them.

A selector is filed under a label that it needs: one with `In` under each of its values, one with `Exists`
under the key. Only selectors without such a requirement are asked always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from wildcard_operator.model.label_selectors import Operator, Selector

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

T = TypeVar("T", bound="Hashable")
Term = tuple[str, str | None]


def needed_terms(selector: Selector) -> tuple[Term, ...]:
    """Labels of which one must be there, as (key, value), or (key, None) for any value; () where none is
    needed."""
    best: tuple[Term, ...] = ()
    for requirement in selector.requirements:
        if requirement.operator is Operator.IN:
            terms: tuple[Term, ...] = tuple((requirement.key, value) for value in requirement.values)
            if not best or best[0][1] is None or len(terms) < len(best):
                best = terms
        elif requirement.operator is Operator.EXISTS and not best:
            best = ((requirement.key, None),)
    return best


class SelectorIndex(Generic[T]):
    """Items with a selector each; an item is in it once."""

    def __init__(self) -> None:
        self._by_term: dict[Term, dict[T, Selector]] = {}
        self._always: dict[T, Selector] = {}

    def add(self, item: T, selector: Selector) -> None:
        """Put an item in; it must not be in already."""
        terms = needed_terms(selector)
        for term in terms:
            self._by_term.setdefault(term, {})[item] = selector
        if not terms:
            self._always[item] = selector

    def discard(self, item: T, selector: Selector) -> None:
        """Take an item out, with the selector that it was put in with."""
        for term in needed_terms(selector):
            bucket = self._by_term.get(term, {})
            bucket.pop(item, None)
            if not bucket:
                self._by_term.pop(term, None)
        self._always.pop(item, None)

    def matching(self, labels: Mapping[str, str]) -> Iterator[T]:
        """Items whose selector matches, each once: no labels fit two terms of one selector."""
        for key, value in labels.items():
            for term in ((key, value), (key, None)):
                bucket = self._by_term.get(term)
                if bucket:
                    yield from (item for item, selector in bucket.items() if selector.matches(labels))
        for item, selector in self._always.items():
            if selector.matches(labels):
                yield item
