# SPDX-License-Identifier: Apache-2.0
"""Requests to the kernel's routing netlink, and the attributes of which its messages consist.

Only what a node needs: dumps, and requests that are acknowledged. A library that makes an object of every
attribute takes twenty to forty times the processor time for a node's links and routes.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Attributes = dict[int, bytes]
"""Type to value; a value may be attributes again."""

_ERROR: Final = 2
_DONE: Final = 3
_REQUEST: Final = 0x1
_ACKNOWLEDGE: Final = 0x4
_DUMP: Final = 0x300
_SOL_NETLINK: Final = 270
_STRICT_CHECK: Final = 12  # the kernel obeys the fields of a dump's request, and refuses those it can't obey
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_TYPE: Final = 0x3FFF  # without the flags "nested" and "network byte order"
_NESTED: Final = 0x8000


class Rtnetlink:
    """A socket in the network namespace of the thread that makes it. Not for several threads at once."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
        self._sequence = 0

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all messages that answer a dump. Raises OSError.

        A dump during which something changed may lack some of it: whoever follows changes dumps again.
        """
        self._send(kind, _REQUEST | _DUMP, body)
        found: list[bytes] = []
        while True:
            for answer, payload in self._receive():
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    _raise(payload)
                found.append(payload)

    def request(self, kind: int, body: bytes) -> None:
        """Have a change made. Raises OSError."""
        self._send(kind, _REQUEST | _ACKNOWLEDGE, body)
        while True:
            for answer, payload in self._receive():
                if answer == _ERROR:
                    return _raise(payload)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)

    def _receive(self) -> Iterator[tuple[int, bytes]]:
        data = self._socket.recv(1 << 16)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
            if sequence == self._sequence:
                yield kind, data[offset + _HEADER.size : offset + length]
            offset += _aligned(length)


def _raise(payload: bytes) -> None:
    """Raise what an error says; 0 is an acknowledgement."""
    (code,) = struct.unpack_from("=i", payload)
    if code:
        raise OSError(-code, f"netlink: {os.strerror(-code)}")


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def attributes(data: bytes, offset: int = 0) -> Attributes:
    """The attributes that begin at `offset`."""
    found = {}
    end = len(data) - _ATTRIBUTE.size
    while offset <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return (_ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value).ljust(
        _aligned(_ATTRIBUTE.size + len(value)), b"\0"
    )


def nested(kind: int, parts: Iterable[bytes]) -> bytes:
    """An attribute out of attributes."""
    return attribute(kind | _NESTED, b"".join(parts))


def number(found: Mapping[int, bytes], kind: int) -> int | None:
    """An attribute that is a number in the machine's byte order; None where it is missing."""
    value = found.get(kind)
    return None if value is None else int.from_bytes(value, sys.byteorder)
