# SPDX-License-Identifier: Apache-2.0
"""The description of a wildcard map's key: its fields, and where each lies in an element and in a rule's row.

An *element* is the packed fields in order, each in network byte order, padded with zeros to a multiple of
8 bytes ("words"). A *row* is how an entry stands in the kernel's ``rules`` array; ``bpf/wildcard/layout.h``
states the same layout for C and ``tests/bpf`` compares the two through BTF.
"""

import dataclasses
import enum
import functools
from typing import Self

import numpy as np
from typing_extensions import override

from .btf import Btf
from .errors import InvalidArgument

MAX_FIELDS = 9
MAX_KEY_SIZE = 128
MAX_TABLES = 64
LAYOUT_VERSION = 2


class Kind(enum.StrEnum):
    """How a field of a rule matches a field of a packet."""

    PREFIX = "prefix"
    RANGE = "range"
    MATCH = "match"
    WILDCARD_MATCH = "any"

    @property
    def number(self) -> int:
        """The kind's number in the kernel's description (enum wildcard_kind)."""
        return list(Kind).index(self) + 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """The field sizes allowed, in bytes."""
        return (1, 2, 4, 8) if self is Kind.RANGE else (1, 2, 4, 8, 16)


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field: its name, its kind, its size in bytes."""

    name: str
    kind: Kind
    size: int

    def __post_init__(self) -> None:
        if self.size not in self.kind.sizes:
            sizes = ", ".join(map(str, self.kind.sizes))
            raise InvalidArgument(f"a {self.kind} field has {sizes} bytes, not {self.size}", self.name)

    @property
    def bits(self) -> int:
        """The size in bits."""
        return self.size * 8


@dataclasses.dataclass(frozen=True)
class Description:
    """1 to 9 fields, at most 128 bytes together."""

    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.fields) <= MAX_FIELDS:
            raise InvalidArgument(f"a key has 1 to {MAX_FIELDS} fields, not {len(self.fields)}")
        if self.key_size > MAX_KEY_SIZE:
            raise InvalidArgument(f"a key has at most {MAX_KEY_SIZE} bytes, not {self.key_size}")
        names = [field.name for field in self.fields]
        for name in names:
            if names.count(name) > 1:
                raise InvalidArgument("two fields have this name", name)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``prefix4,prefix4,range2,range2,match1``; fields are named f0, f1, ..."""
        fields = []
        for index, item in enumerate(text.split(",")):
            word, name = item.strip(), f"f{index}"
            letters = word.rstrip("0123456789")
            if letters not in list(Kind) or letters == word:
                kinds = ", ".join(Kind)
                raise InvalidArgument(
                    f"{word!r} is not a kind ({kinds}) and a size in bytes, like prefix4", name
                )
            fields.append(Field(name, Kind(letters), int(word[len(letters) :])))
        return cls(tuple(fields))

    @classmethod
    def of_struct(cls, btf: Btf, name: str) -> Self:
        """Read what ``WILDCARD_DESC_n(name, ...)`` declared in an object."""
        prefix, fields = "wildcard:", []
        for member in btf.members(f"{name}_elem"):
            kinds = [tag.removeprefix(prefix) for tag in member.tags if tag.startswith(prefix)]
            if kinds:
                fields.append(Field(member.name, Kind[kinds[0]], member.size))
        return cls(tuple(fields))

    @override
    def __str__(self) -> str:
        return ",".join(f"{field.kind}{field.size}" for field in self.fields)

    def same_layout(self, other: "Description") -> bool:
        """Whether the two agree in kinds and sizes; names do not matter."""
        return str(self) == str(other)

    @functools.cached_property
    def key_size(self) -> int:
        """Bytes of the packed fields."""
        return sum(field.size for field in self.fields)

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """Byte offset of each field in an element."""
        return tuple(sum(field.size for field in self.fields[:index]) for index in range(len(self.fields)))

    @functools.cached_property
    def words(self) -> int:
        """8-byte words of an element, padding included."""
        return -(-self.key_size // 8)

    @functools.cached_property
    def ranges(self) -> tuple[int, ...]:
        """Indices of the RANGE fields."""
        return tuple(index for index, field in enumerate(self.fields) if field.kind is Kind.RANGE)

    @functools.cached_property
    def bounds(self) -> int:
        """4-byte units that the bounds take in a row: one a range of up to 2 bytes, four of more; even."""
        units = sum(1 if self.fields[index].size <= 2 else 4 for index in self.ranges)
        return units + units % 2

    def row_type(self, value_size: int) -> np.dtype[np.void]:
        """The numpy type of a row with ``value_size`` bytes of user value."""
        fields: list[tuple[str, str] | tuple[str, str, int]] = [
            ("place", "u8"),
            ("next", "u4"),
            ("id", "u4"),
            ("table", "u4"),
            ("order", "u4"),
            ("value", "u8", self.words),
            ("mask", "u8", self.words),
        ]
        if self.bounds:
            fields.append(("bounds", "u4", self.bounds))
        if value_size:
            fields.append(("user", "u1", -(-value_size // 8) * 8))
        return np.dtype(_vectors(fields))


def _vectors(fields: list[tuple[str, str] | tuple[str, str, int]]) -> list[tuple[str, str, tuple[int, ...]]]:
    """Give every numpy field a shape: one word is a vector of one, and code need not tell them apart."""
    return [(item[0], item[1], (item[2],) if len(item) == 3 else ()) for item in fields]
