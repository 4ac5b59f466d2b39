# SPDX-License-Identifier: Apache-2.0
"""A reader of BTF, as far as layouts go: the structs, tags and constants of an object file.

Source: Documentation/bpf/btf.rst, include/uapi/linux/btf.h. Reads 64-bit ELF of either byte order; a file
without BTF, or one that is damaged, raises ``InvalidArgument``.
"""

import dataclasses
import struct
from pathlib import Path
from typing import Self

from .errors import InvalidArgument

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM = 1, 2, 3, 4, 5, 6
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _FUNC_PROTO, _VAR, _DATASEC = 8, 9, 10, 11, 13, 14, 15
_FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = 16, 17, 18, 19
_ALIASES = {_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG}
_MAGIC = 0xEB9F


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct: offset and size in bytes, its type's name, and its declaration tags."""

    name: str
    offset: int
    size: int
    type: str
    tags: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Type:
    kind: int
    name: str
    count: int  # members, values or parameters
    flag: bool  # of a struct: member offsets carry bit field sizes
    number: int  # size in bytes, or the type that this one refers to
    rest: int  # where what follows the head starts


class Btf:
    """The types of one object file."""

    def __init__(self, data: bytes, byte_order: str = "<") -> None:
        self._data, self._byte_order = data, byte_order
        self._tags: dict[tuple[int, int], list[str]] = {}
        try:
            self._types = self._parse()
        except (struct.error, ValueError) as error:
            raise InvalidArgument(f"the BTF is damaged: {error}") from error

    @classmethod
    def of_object(cls, path: Path) -> Self:
        """Read the ``.BTF`` section of an ELF file."""
        byte_order, section = _elf_section(path, ".BTF")
        return cls(section, byte_order)

    def _unpack(self, layout: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self._byte_order + layout, self._data, at)

    def _text(self, at: int) -> str:
        start = self._texts + at
        return self._data[start : self._data.index(0, start)].decode()

    def _parse(self) -> list[_Type]:
        magic, _version, _flags, header, types_at, types_size, texts_at, _ = self._unpack("HBBIIIII", 0)
        if magic != _MAGIC:
            raise ValueError("wrong magic")
        self._texts = header + texts_at
        types = [_Type(0, "", 0, False, 0, 0)]
        at, end = header + types_at, header + types_at + types_size
        while at < end:
            name_at, info, number = self._unpack("III", at)
            kind, count, rest = info >> 24 & 0x1F, info & 0xFFFF, at + 12
            if kind == _DECL_TAG:
                (member,) = self._unpack("i", rest)
                self._tags.setdefault((number, member), []).append(self._text(name_at))
            types.append(_Type(kind, self._text(name_at), count, bool(info >> 31), number, rest))
            at = rest + _length_of_rest(kind, count)
        return types

    def _struct(self, name: str) -> int:
        for number, item in enumerate(self._types):
            if item.kind in (_STRUCT, _UNION) and item.name == name:
                return number
        raise InvalidArgument(f"the object has no struct {name}")

    def _size(self, number: int) -> int:
        item = self._types[number]
        if item.kind in _ALIASES:
            return self._size(item.number)
        if item.kind == _PTR:
            return 8
        if item.kind == _ARRAY:
            element, _index, length = self._unpack("III", item.rest)
            return self._size(element) * length
        return item.number

    def _type_name(self, number: int) -> str:
        """The name of a type, of an array's elements, or of what a nameless alias stands for."""
        item = self._types[number]
        if item.kind == _ARRAY:
            (element,) = self._unpack("I", item.rest)
            return self._type_name(element)
        return self._type_name(item.number) if item.kind in _ALIASES and not item.name else item.name

    def size(self, name: str) -> int:
        """Size of a struct or union in bytes."""
        return self._types[self._struct(name)].number

    def members(self, name: str) -> list[Member]:
        """Return the named members of a struct in order; bit fields are left out."""
        number = self._struct(name)
        item, members = self._types[number], []
        for index in range(item.count):
            name_at, member_type, position = self._unpack("III", item.rest + 12 * index)
            bits = position & 0xFFFFFF if item.flag else position
            if name_at and not (item.flag and position >> 24):
                tags = tuple(self._tags.get((number, index), ()))
                size, type_name = self._size(member_type), self._type_name(member_type)
                members.append(Member(self._text(name_at), bits // 8, size, type_name, tags))
        return members

    def constants(self, name: str) -> dict[str, int]:
        """Return the names and values of an enum."""
        for item in self._types:
            if item.kind == _ENUM and item.name == name:
                pairs = (self._unpack("Ii", item.rest + 8 * index) for index in range(item.count))
                return {self._text(name_at): value for name_at, value in pairs}
        raise InvalidArgument(f"the object has no enum {name}")


def _length_of_rest(kind: int, count: int) -> int:
    """Bytes behind a type's head of 12."""
    fixed = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
    each = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
    return fixed.get(kind, 0) + each.get(kind, 0) * count


def _sections(path: Path) -> tuple[str, bytes, dict[str, tuple[int, ...]]]:
    """Return (byte order, the file, section name -> its header's fields)."""
    data = path.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        raise InvalidArgument(f"{path} is not a 64-bit ELF object")
    byte_order = "<" if data[5] == 1 else ">"
    try:
        (table_at,) = struct.unpack_from(byte_order + "Q", data, 0x28)
        size, count, names_index = struct.unpack_from(byte_order + "HHH", data, 0x3A)
        headers = [
            struct.unpack_from(byte_order + "IIQQQQIIQQ", data, table_at + size * index)
            for index in range(count)
        ]
        names_at = headers[names_index][4]
        named = {}
        for header in headers:
            start = names_at + header[0]
            named[data[start : data.index(0, start)].decode()] = header
    except (struct.error, IndexError, ValueError) as error:
        raise InvalidArgument(f"{path} is damaged: {error}") from error
    return byte_order, data, named


def _elf_section(path: Path, name: str) -> tuple[str, bytes]:
    byte_order, data, named = _sections(path)
    if name not in named:
        raise InvalidArgument(f"{path} has no {name}: compile it with -g")
    header = named[name]
    return byte_order, data[header[4] : header[4] + header[5]]


def symbol_offset(path: Path, symbol: str) -> int:
    """Return the byte offset of a variable in its section, from the ELF symbol table."""
    byte_order, data, named = _sections(path)
    table, texts = named[".symtab"], named[".strtab"]
    for at in range(table[4], table[4] + table[5], 24):
        name_at, _info, _other, _section, value, _size = struct.unpack_from(byte_order + "IBBHQQ", data, at)
        start = texts[4] + name_at
        if data[start : data.index(0, start)] == symbol.encode():
            return int(value)
    raise InvalidArgument(f"{path} has no symbol {symbol}")
