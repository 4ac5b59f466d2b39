# SPDX-License-Identifier: Apache-2.0
"""The text files of ``wildcardctl classify``: rules, packets, and the pool of tables.

Files are read by columns: each distinct word of a column is parsed once, so a hundred thousand lines take
a fraction of a second. A malformed line raises `FileError`, which names the file, the line, the field and
what would be right.
"""

from __future__ import annotations

import contextlib
import re
import socket
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from wildcard_operator.wildcardmap import Description, Field, InvalidArgument, Kind, Pool, RuleArrays

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

T = TypeVar("T")
MAX_PRIORITY = 2**32 - 1
_DESCRIPTION = re.compile(r"\s*#\s*desc:\s*(.*?)\s*(?:#.*)?")
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]+")


class FileError(ValueError):
    """A file that cannot be used. Its text is ``FILE:LINE: field N (kind): what is wrong``."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")


class WordError(ValueError):
    """A word that is no value, prefix or range of its field."""


class Span(NamedTuple):
    """The least and the greatest value that a rule matches in one field."""

    low: bytes
    high: bytes


class _Lines(NamedTuple):
    """The words of the lines that have any, these lines' numbers (from 1), and the description found."""

    words: list[list[str]]
    numbers: list[int]
    description: str | None
    description_line: int


def read_rules(path: Path, description: Description | None = None) -> RuleArrays:
    """Read a rules file; the description may come from the file's ``# desc:`` line instead.

    A rule's order and rule id are its index in the file, and so is its priority unless the line gives one.
    """
    lines = _read(path)
    description = _description(path, lines, description)
    fields = description.fields
    rows, index = lines.words, np.arange(len(lines.words), dtype=np.uint32)
    priorities = index.copy()
    if any(row[-1].startswith("prio=") for row in rows):
        rows = [row[:] for row in rows]
        for at, row in enumerate(rows):
            if row[-1].startswith("prio="):
                priorities[at] = _priority(path, lines.numbers[at], row.pop())
    _check_width(path, lines.numbers, rows, fields)
    columns = _columns(path, lines.numbers, rows, fields, parse_span)
    return RuleArrays.from_intervals(
        description,
        _joined([[span.low for span in column] for column in columns], len(rows), fields),
        _joined([[span.high for span in column] for column in columns], len(rows), fields),
        priorities=priorities,
        orders=index,
        rule_ids=index,
    )


def read_packets(path: Path, description: Description) -> npt.NDArray[np.uint8]:
    """Read a packets file into uint8[n, key size], in network order."""
    lines = _read(path)
    _check_width(path, lines.numbers, lines.words, description.fields)
    columns = _columns(path, lines.numbers, lines.words, description.fields, parse_value_of)
    return _joined(columns, len(lines.words), description.fields)


def parse_span(field: Field, word: str) -> Span:
    """Read one field of a rule; raises `WordError`."""
    bits = field.bits
    if word == "*":
        if field.kind is Kind.MATCH:
            raise WordError("a match field needs a value; use the kind any where '*' shall be possible")
        return Span(bytes(field.size), b"\xff" * field.size)
    if field.kind is Kind.RANGE:
        first, separator, last = word.partition(":" if ":" in word else "-")
        low = parse_value(first, field.size)
        high = parse_value(last, field.size) if separator else low
        if low > high:
            raise WordError(f"the range's minimum {first} is greater than its maximum {last}")
        return Span(low, high)
    if field.kind is Kind.PREFIX and "/" in word:
        text, _, length_text = word.partition("/")
        if not _is_decimal(length_text) or int(length_text) > bits:
            raise WordError(f"the prefix length {length_text!r} is not a number from 0 to {bits}")
        return _prefix(parse_value(text, field.size), int(length_text), word)
    value = parse_value(word, field.size)
    return Span(value, value)


def parse_value_of(field: Field, word: str) -> bytes:
    """Read one field of a packet; raises `WordError`."""
    return parse_value(word, field.size)


def parse_value(word: str, size: int) -> bytes:
    """Read a VALUE into `size` bytes of network order; raises `WordError`."""
    if _is_decimal(word):
        number = int(word)
    elif word[:2] in ("0x", "0X"):
        if not _HEXADECIMAL.fullmatch(word):
            raise WordError(f"{word!r} is not a hexadecimal number")
        number = int(word, 16)
    else:
        return _address(word, size)
    try:
        return number.to_bytes(size, "big")
    except OverflowError:
        raise WordError(f"{word} does not fit {size} bytes") from None


def parse_pool(text: str, description: Description) -> Pool:
    """Read a pool: ``list:`` or ``cart:`` and prefix lengths, ``;`` between fields.

    The fields are all those of the description, the others than prefixes being empty, or the prefixes alone.
    Raises `WordError`.
    """
    kind, colon, rest = text.partition(":")
    if kind not in ("list", "cart") or not colon:
        raise WordError(f"a pool starts with list: or cart:, unlike {text!r}")
    fields = description.fields
    prefixes = [index for index, field in enumerate(fields) if field.kind is Kind.PREFIX]
    items = rest.split(";")
    if len(items) == len(prefixes):
        items_of = dict(zip(prefixes, items, strict=True))
    elif len(items) == len(fields):
        items_of = dict(enumerate(items))
    else:
        counts = f"the description has {len(fields)}, of them {len(prefixes)} prefixes"
        raise WordError(f"the pool has {len(items)} fields where {counts}")
    lengths = {index: _lengths(_name(index, fields), item) for index, item in items_of.items()}
    for index, given in lengths.items():
        if given and index not in prefixes:
            raise WordError(f"{_name(index, fields)}: only prefix fields have lengths in a pool")
    return Pool(tuple(lengths[index] for index in prefixes), cartesian=kind == "cart")


def _lengths(name: str, item: str) -> tuple[int, ...]:
    words = [word.strip() for word in item.split(",")] if item.strip() else []
    for word in words:
        if not _is_decimal(word):
            raise WordError(f"{name}: the prefix length {word!r} is not a number")
    return tuple(map(int, words))


def _is_decimal(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _address(word: str, size: int) -> bytes:
    families = {4: socket.AF_INET, 16: socket.AF_INET6}
    if size in families:
        with contextlib.suppress(OSError):
            return socket.inet_pton(families[size], word)
    forms = {4: ", 0x hexadecimal or a dotted quad", 16: ", 0x hexadecimal or an IPv6 address"}
    wanted = forms.get(size, " or 0x hexadecimal")
    raise WordError(f"{word!r} is not a value of {size} bytes: decimal{wanted}")


def _prefix(value: bytes, length: int, word: str) -> Span:
    bits = 8 * len(value)
    number = int.from_bytes(value, "big")
    host = (1 << bits - length) - 1
    if number & host:
        right = (number & ~host).to_bytes(len(value), "big")
        raise WordError(f"{word} has bits set beyond its length; the prefix is {_text(right)}/{length}")
    return Span(value, (number | host).to_bytes(len(value), "big"))


def _text(value: bytes) -> str:
    family = {4: socket.AF_INET, 16: socket.AF_INET6}.get(len(value))
    return socket.inet_ntop(family, value) if family else f"0x{value.hex()}"


def _priority(path: Path, line: int, word: str) -> int:
    text = word.removeprefix("prio=")
    if not _is_decimal(text) or int(text) > MAX_PRIORITY:
        raise FileError(path, line, f"the priority {text!r} is not a number from 0 to {MAX_PRIORITY}")
    return int(text)


def _read(path: Path) -> _Lines:
    words, numbers, description, description_line = [], [], None, 0
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        bad_line = error.object[: error.start].count(b"\n") + 1
        raise FileError(path, bad_line, "the file is not text") from None
    for number, line in enumerate(text.split("\n"), 1):
        found = line.partition("#")[0].split() if "#" in line else line.split()
        if found:
            words.append(found)
            numbers.append(number)
        elif description is None and (match := _DESCRIPTION.fullmatch(line)):
            description, description_line = match[1], number
    return _Lines(words, numbers, description, description_line)


def _description(path: Path, lines: _Lines, given: Description | None) -> Description:
    if lines.description is None:
        if given is None:
            raise FileError(path, 1, "no line '# desc: ...' and no --desc tell the fields")
        return given
    try:
        found = Description.parse(lines.description)
    except InvalidArgument as error:
        raise FileError(path, lines.description_line, str(error.strerror)) from None
    if given is not None and not found.same_layout(given):
        raise FileError(path, lines.description_line, f"the file says {found}, --desc says {given}")
    return given or found


def _check_width(
    path: Path, numbers: Sequence[int], rows: Sequence[list[str]], fields: Sequence[Field]
) -> None:
    for number, row in zip(numbers, rows, strict=True):
        if len(row) != len(fields):
            problem = f"{len(row)} fields where the description has {len(fields)}"
            raise FileError(path, number, problem)


def _columns(
    path: Path,
    numbers: Sequence[int],
    rows: Sequence[list[str]],
    fields: Sequence[Field],
    parse: Callable[[Field, str], T],
) -> list[list[T]]:
    """Parse by column. Of several malformed words the first of the first line is reported."""
    columns: list[list[T]] = []
    failures: list[tuple[int, int, str]] = []
    for index, (field, column) in enumerate(
        zip(fields, zip(*rows, strict=True), strict=True) if rows else ()
    ):
        parsed: dict[str, T] = {}
        for word in dict.fromkeys(column):
            try:
                parsed[word] = parse(field, word)
            except WordError as error:
                failures.append((column.index(word), index, str(error)))
                break  # words stand in the order of the file, so this column's first is found
        else:
            columns.append([parsed[word] for word in column])
    if failures:
        row, index, problem = min(failures)
        raise FileError(path, numbers[row], f"{_name(index, fields)}: {problem}")
    return columns or [[] for _ in fields]


def _name(index: int, fields: Sequence[Field]) -> str:
    return f"field {index + 1} ({fields[index].kind}{fields[index].size})"


def _joined(columns: list[list[bytes]], count: int, fields: Sequence[Field]) -> npt.NDArray[np.uint8]:
    arrays = [
        np.frombuffer(b"".join(column), np.uint8).reshape(count, field.size)
        for column, field in zip(columns, fields, strict=True)
    ]
    return np.concatenate(arrays, axis=1)
