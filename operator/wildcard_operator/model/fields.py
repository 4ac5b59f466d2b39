# SPDX-License-Identifier: Apache-2.0
"""Reads plain dicts and lists, as YAML and JSON give them, and knows for each value where it stands.

Every error is a `RefusedError` with the object, the path of the field and what would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeVar

from wildcard_operator.model.errors import ObjectRef, Refusal, RefusedError

T = TypeVar("T")

_NO_FIELDS: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(slots=True)
class Value:
    """One value of an object, None where the field is absent or null.

    Not frozen, and its path worked out only for refusals: a cluster has millions of them, and a frozen one
    takes three times as long to make.
    """

    ref: ObjectRef
    key: str | int
    raw: Any
    parent: Value | None = None

    @property
    def path(self) -> str:
        """Where it stands in the object, such as `spec.ingress[0].from`."""
        above = "" if self.parent is None else self.parent.path
        if isinstance(self.key, int):
            return f"{above}[{self.key}]"
        return f"{above}.{self.key}" if above else self.key

    def refuse(self, reason: Refusal, message: str) -> NoReturn:
        """Raise the refusal that names this field."""
        raise RefusedError(reason, self.ref, self.path, message)

    @property
    def present(self) -> bool:
        """Whether the field is there; null is absent, as the API server treats it."""
        return self.raw is not None

    def field(self, name: str) -> Value:
        """A field of this object; absent in an absent object."""
        return Value(self.ref, name, self.mapping().get(name), self)

    def required(self, name: str) -> Value:
        """A field that has to be there."""
        value = self.field(name)
        if not value.present:
            value.refuse(Refusal.MISSING_FIELD, "it is required")
        return value

    def mapping(self) -> Mapping[str, Any]:
        """This value as an object; {} where absent."""
        if self.raw is None:
            return _NO_FIELDS
        if type(self.raw) is not dict and not isinstance(self.raw, Mapping):
            self._wrong_type("an object")
        return self.raw

    def only(self, known: Collection[str]) -> Value:
        """This object, refused if it has a field that isn't known: a typo must not open anything."""
        for name in self.mapping():
            if name not in known:
                self.field(str(name)).refuse(
                    Refusal.UNKNOWN_FIELD, f"there is no such field; known ones: {', '.join(sorted(known))}"
                )
        return self

    def items(self) -> Iterator[Value]:
        """The values of this list; none where absent."""
        if self.raw is None:
            return
        if not isinstance(self.raw, list | tuple):
            self._wrong_type("a list")
        for index, raw in enumerate(self.raw):
            yield Value(self.ref, index, raw, self)

    def at_most(self, count: int) -> Value:
        """This list, refused if it is longer."""
        length = sum(1 for _ in self.items())
        if length > count:
            self.refuse(Refusal.TOO_MANY, f"it has {length} items, at most {count} are allowed")
        return self

    def text(self) -> str:
        """This value as a string."""
        if not isinstance(self.raw, str):
            self._wrong_type("a string")
        return self.raw

    def flag(self, *, default: bool) -> bool:
        """This value as true or false."""
        if self.raw is None:
            return default
        if not isinstance(self.raw, bool):
            self._wrong_type("true or false")
        return self.raw

    def number(self, low: int, high: int, reason: Refusal = Refusal.INVALID_VALUE) -> int:
        """This value as a whole number from `low` to `high`."""
        if isinstance(self.raw, bool) or not isinstance(self.raw, int):
            self._wrong_type("a whole number")
        if not low <= self.raw <= high:
            self.refuse(reason, f"{self.raw} is out of range: write {low} to {high}")
        return self.raw

    def choice(self, known: Collection[str]) -> str:
        """This value as one of the known words."""
        if not isinstance(self.raw, str) or self.raw not in known:
            self.refuse(Refusal.INVALID_VALUE, f"{self.raw!r} is not one of {', '.join(known)}")
        return self.raw

    def labels(self) -> dict[str, str]:
        """This value as a map of strings; {} where absent."""
        for key, value in self.mapping().items():
            if not isinstance(key, str) or not isinstance(value, str):
                self.refuse(Refusal.WRONG_TYPE, f"label {key!r} must have a string as value: quote {value!r}")
        return dict(self.mapping())

    def parsed(self, parse: Callable[[str], T], reason: Refusal) -> T:
        """This string, parsed; a ValueError of `parse` becomes the refusal."""
        try:
            return parse(self.text())
        except ValueError as error:
            self.refuse(reason, f"{self.raw!r} can't be read: {error}")

    def _wrong_type(self, wanted: str) -> NoReturn:
        self.refuse(
            Refusal.WRONG_TYPE, f"it must be {wanted}, not {type(self.raw).__name__} {self.raw!r:.60}"
        )


def root(raw: Any, kind: str) -> Value:
    """The object itself, named by its metadata as far as that can be read."""
    if not isinstance(raw, Mapping):
        raise RefusedError(
            Refusal.NOT_AN_OBJECT,
            ObjectRef(kind, "", "?"),
            "",
            f"it must be an object, not {type(raw).__name__}",
        )
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    namespace, name = metadata.get("namespace"), metadata.get("name")
    ref = ObjectRef(
        kind, namespace if isinstance(namespace, str) else "", name if isinstance(name, str) else "?"
    )
    return Value(ref, "", raw)
