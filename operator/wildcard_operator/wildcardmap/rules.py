# SPDX-License-Identifier: Apache-2.0
"""Rules as people write them, and as arrays.

A rule is a tuple with one item a field: a PREFIX is an ``ipaddress`` network, ``(value, length)``, a value
(full length) or ``ANY``; a RANGE is ``(low, high)``, inclusive, a number or ``ANY``; a MATCH is a value; a
WILDCARD_MATCH is a value or ``ANY``. A value is an int, an ``ipaddress`` address, or bytes of the field's
size in network order. An element is a tuple of values.

In arrays every field is an interval: the least and the greatest packet that the rule matches there, so all
kinds are handled alike. ``low`` and ``high`` are uint8[n, 8 * words]: elements in network order, padding 0.
"""

import dataclasses
import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final, Self, cast

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from .description import Description, Field, Kind
from .errors import InvalidArgument


class AnyValue:
    """The type of ``ANY``: every value of a field."""

    @override
    def __repr__(self) -> str:
        return "ANY"


ANY: Final = AnyValue()
ASSIGNED: Final = 0xFFFFFFFF
"""A rule id that the map is to choose."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Value = int | bytes | Address
FieldRule = Value | Network | AnyValue | tuple[Value, int]
Rule = Sequence[FieldRule]
Element = Sequence[Value]
Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.uint32]
Flags = npt.NDArray[np.bool_]


def value_bytes(field: Field, value: object) -> bytes:
    """Return a value as the field's bytes in network order."""
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        value = value.packed
    if isinstance(value, bytes):
        if len(value) != field.size:
            raise InvalidArgument(f"{len(value)} bytes given, the field has {field.size}", field.name)
        return value
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InvalidArgument(f"{value!r} is not a number, an address or bytes", field.name)
    number = int(value)
    if not 0 <= number < 1 << field.bits:
        raise InvalidArgument(f"{number} does not fit: 0 to {(1 << field.bits) - 1}", field.name)
    return number.to_bytes(field.size, "big")


def _interval(field: Field, item: object) -> tuple[bytes, bytes]:
    """Return the least and the greatest value that one item of a rule matches."""
    if isinstance(item, AnyValue):
        if field.kind is Kind.MATCH:
            raise InvalidArgument(
                "a MATCH field needs a value; declare it WILDCARD_MATCH to allow any", field.name
            )
        return bytes(field.size), b"\xff" * field.size
    if field.kind is Kind.PREFIX:
        return _prefix(field, item)
    if field.kind is Kind.RANGE and isinstance(item, tuple):
        return _range(field, item)
    value = value_bytes(field, item)
    return value, value


def _prefix(field: Field, item: object) -> tuple[bytes, bytes]:
    if isinstance(item, ipaddress.IPv4Network | ipaddress.IPv6Network):
        item = (item.network_address, item.prefixlen)
    if not isinstance(item, tuple):
        item = (item, field.bits)
    if len(item) != 2 or isinstance(item[1], bool) or not isinstance(item[1], int | np.integer):
        raise InvalidArgument(f"{item!r} is not a prefix: give a network or (value, length)", field.name)
    low, length = value_bytes(field, item[0]), int(item[1])
    if not 0 <= length <= field.bits:
        raise InvalidArgument(f"prefix length {length} does not fit: 0 to {field.bits}", field.name)
    number, host = int.from_bytes(low, "big"), (1 << field.bits - length) - 1
    if number & host:
        wanted = (number & ~host).to_bytes(field.size, "big")
        raise InvalidArgument(
            f"bits are set behind /{length}: the prefix would be 0x{wanted.hex()}/{length}", field.name
        )
    return low, (number | host).to_bytes(field.size, "big")


def _range(field: Field, item: tuple[object, ...]) -> tuple[bytes, bytes]:
    if len(item) != 2:
        raise InvalidArgument(f"{item!r} is not a range: give (low, high)", field.name)
    low, high = value_bytes(field, item[0]), value_bytes(field, item[1])
    if low > high:
        raise InvalidArgument(f"the range is empty: {item[0]} is above {item[1]}", field.name)
    return low, high


def encode_rule(description: Description, rule: Rule) -> tuple[bytes, bytes]:
    """Return (low, high) of a rule: elements in network order, padded to whole words."""
    if isinstance(rule, str | bytes) or len(rule) != len(description.fields):
        raise InvalidArgument(f"a rule has {len(description.fields)} items, one a field")
    pairs = [_interval(field, item) for field, item in zip(description.fields, rule, strict=True)]
    padding = bytes(8 * description.words - description.key_size)
    return b"".join(low for low, _ in pairs) + padding, b"".join(high for _, high in pairs) + padding


def encode_element(description: Description, element: Element) -> bytes:
    """Return an element in network order, padded to whole words."""
    if isinstance(element, str | bytes) or len(element) != len(description.fields):
        raise InvalidArgument(f"an element has {len(description.fields)} values, one a field")
    packed = b"".join(
        value_bytes(field, item) for field, item in zip(description.fields, element, strict=True)
    )
    return packed.ljust(8 * description.words, b"\0")


def decode_rule(description: Description, low: bytes, high: bytes) -> tuple[FieldRule, ...]:
    """Return the rule of (low, high) with numbers for values; the inverse of ``encode_rule``."""
    items: list[FieldRule] = []
    for field, offset in zip(description.fields, description.offsets, strict=True):
        least = int.from_bytes(low[offset : offset + field.size], "big")
        greatest = int.from_bytes(high[offset : offset + field.size], "big")
        if field.kind is Kind.PREFIX:
            items.append((least, field.bits - (least ^ greatest).bit_length()))
        elif field.kind is Kind.RANGE:
            items.append((least, greatest))
        else:
            items.append(least if least == greatest else ANY)
    return tuple(items)


@dataclasses.dataclass(frozen=True, slots=True)
class RuleArrays:
    """n entries as arrays, for loading many at once.

    low, high: uint8[n, 8 * words]; priority, order, rule_id: uint32[n] (``ASSIGNED`` lets the map choose
    the id); value: uint8[n, value size].
    """

    description: Description
    low: Bytes
    high: Bytes
    priority: Numbers
    order: Numbers
    rule_id: Numbers
    value: Bytes

    def __len__(self) -> int:
        return len(self.low)

    @classmethod
    def from_rules(
        cls,
        description: Description,
        rules: Iterable[Rule],
        *,
        priorities: Iterable[int] | None = None,
        orders: Iterable[int] | None = None,
        rule_ids: Iterable[int] | None = None,
        values: Iterable[bytes] | None = None,
    ) -> Self:
        """Encode rules; what is left out is 0, or assigned (ids), or empty (values)."""
        pairs = [encode_rule(description, rule) for rule in rules]
        low = np.frombuffer(b"".join(pair[0] for pair in pairs), np.uint8)
        high = np.frombuffer(b"".join(pair[1] for pair in pairs), np.uint8)
        return cls.from_intervals(
            description,
            low.reshape(len(pairs), 8 * description.words),
            high.reshape(len(pairs), 8 * description.words),
            priorities=_numbers(priorities, "priority"),
            orders=_numbers(orders, "order"),
            rule_ids=_numbers(rule_ids, "rule id"),
            values=_values(values),
        )

    @classmethod
    def from_intervals(
        cls,
        description: Description,
        low: Bytes,
        high: Bytes,
        *,
        priorities: Numbers | None = None,
        orders: Numbers | None = None,
        rule_ids: Numbers | None = None,
        values: Bytes | None = None,
    ) -> Self:
        """Take elements (uint8[n, key size], padded or not) as they are; every field is checked."""
        count = len(low)
        arrays = cls(
            description,
            padded(description, low),
            padded(description, high),
            np.zeros(count, np.uint32) if priorities is None else priorities.astype(np.uint32, copy=False),
            np.zeros(count, np.uint32) if orders is None else orders.astype(np.uint32, copy=False),
            np.full(count, ASSIGNED, np.uint32)
            if rule_ids is None
            else rule_ids.astype(np.uint32, copy=False),
            np.zeros((count, 0), np.uint8) if values is None else values,
        )
        for name in ("high", "priority", "order", "rule_id", "value"):
            if len(getattr(arrays, name)) != count:
                raise InvalidArgument(f"{len(getattr(arrays, name))} given for {count} rules", name)
        arrays._check()
        return arrays

    def _check(self) -> None:
        for field, offset in zip(self.description.fields, self.description.offsets, strict=True):
            low = self.low[:, offset : offset + field.size]
            high = self.high[:, offset : offset + field.size]
            wrong = _wrong(field, low, high)
            if wrong.any():
                first = int(np.flatnonzero(wrong)[0])
                bounds = f"0x{low[first].tobytes().hex()} to 0x{high[first].tobytes().hex()}"
                raise InvalidArgument(
                    f"rule {first}: {bounds} is no {field.kind} of {field.size} bytes", field.name
                )

    def take(self, rows: npt.NDArray[np.intp]) -> Self:
        """The entries at these positions, in this order."""
        return dataclasses.replace(
            self,
            low=self.low[rows],
            high=self.high[rows],
            priority=self.priority[rows],
            order=self.order[rows],
            rule_id=self.rule_id[rows],
            value=self.value[rows],
        )

    def joined(self, other: Self) -> Self:
        """These entries and then the other's."""
        return dataclasses.replace(
            self,
            low=np.concatenate([self.low, other.low]),
            high=np.concatenate([self.high, other.high]),
            priority=np.concatenate([self.priority, other.priority]),
            order=np.concatenate([self.order, other.order]),
            rule_id=np.concatenate([self.rule_id, other.rule_id]),
            value=np.concatenate([self.value, other.value]),
        )

    def packed_identities(self) -> Bytes:
        """What names an entry: priority, order and rule, as bytes whose order is the total order."""
        head = np.stack([self.priority, self.order], axis=1).astype(">u4").view(np.uint8)
        return np.ascontiguousarray(np.hstack([head.reshape(len(self), 8), self.low, self.high]))

    def identities(self) -> list[bytes]:
        """The names of the entries."""
        packed = self.packed_identities()
        return [row.tobytes() for row in packed] if len(self) < 32 else _void_list(packed)


def _void_list(packed: Bytes) -> list[bytes]:
    """Rows as bytes, by numpy's own loop."""
    return cast("list[bytes]", packed.view(np.dtype((np.void, packed.shape[1]))).ravel().tolist())


def _wrong(field: Field, low: Bytes, high: Bytes) -> Flags:
    """Which intervals cannot be written as a rule of this field's kind."""
    words = [(as_numbers(low, half), as_numbers(high, half)) for half in range(max(1, field.size // 8))]
    equal = (low == high).all(axis=1)
    if field.kind is Kind.MATCH:
        return cast("Flags", ~equal)
    if field.kind is Kind.RANGE:
        return words[0][0] > words[0][1]
    everything = ~(low.any(axis=1)) & (high == 255).all(axis=1)
    if field.kind is Kind.WILDCARD_MATCH:
        return cast("Flags", ~(equal | everything))
    wrong = np.zeros(len(low), np.bool_)
    for half, (least, most) in enumerate(words):
        differ = least ^ most
        wrong |= (differ & (differ + np.uint64(1)) != 0) | (least & differ != 0)
        if half:
            # A first half that is not exact leaves nothing exact in the second.
            before = words[half - 1][0] != words[half - 1][1]
            wrong |= before & (differ != np.uint64(0xFFFFFFFFFFFFFFFF))
    return wrong


def as_numbers(field_bytes: Bytes, half: int = 0) -> npt.NDArray[np.uint64]:
    """Numbers of a field's bytes (uint8[n, size]); a field of 16 bytes has two halves."""
    size = min(field_bytes.shape[1], 8)
    part = np.ascontiguousarray(field_bytes[:, 8 * half : 8 * half + size])
    return part.view(f">u{size}").ravel().astype(np.uint64)


def padded(description: Description, elements: Bytes) -> Bytes:
    """Elements (uint8[n, key size], padded or not) as uint8[n, 8 * words]."""
    width = 8 * description.words
    if elements.ndim != 2 or elements.shape[1] not in (width, description.key_size):
        raise InvalidArgument(f"elements have {description.key_size} bytes, not {elements.shape[1:]}")
    if elements.shape[1] == width:
        return np.ascontiguousarray(elements, np.uint8)
    padded = np.zeros((len(elements), width), np.uint8)
    padded[:, : description.key_size] = elements
    return padded


def _numbers(values: Iterable[int] | None, name: str) -> Numbers | None:
    if values is None:
        return None
    try:
        return np.array(list(values), dtype=np.uint32)
    except (OverflowError, ValueError, TypeError) as error:
        raise InvalidArgument(f"a number from 0 to {0xFFFFFFFF} is wanted: {error}", name) from error


def _values(values: Iterable[bytes] | None) -> Bytes | None:
    if values is None:
        return None
    items = list(values)
    sizes = {len(item) for item in items}
    if len(sizes) > 1:
        raise InvalidArgument(f"values have one size, not {sorted(sizes)}", "value")
    return np.frombuffer(b"".join(items), np.uint8).reshape(len(items), -1 if items and items[0] else 0)
