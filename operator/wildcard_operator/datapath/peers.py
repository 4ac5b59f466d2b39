# SPDX-License-Identifier: Apache-2.0
"""The addresses at the far end of a veth pair: which pod a bridge port belongs to.

The kernel answers a dump of addresses for another namespace by the id that it gave that namespace, so nobody
has to enter it: CAP_NET_ADMIN is enough. Unlike neighbours and forwarding tables a pod can't forge them
without CAP_NET_ADMIN of its own. pyroute2 has no such request (0.9), so the few bytes of it are written
here.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from wildcard_operator.model.net import V4, V6, Address

if TYPE_CHECKING:
    from collections.abc import Iterator

_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_NLM_F_REQUEST_DUMP: Final = 0x1 | 0x300
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_TARGET_NETNSID: Final = 10
_SOL_NETLINK: Final = 270
_NETLINK_GET_STRICT_CHK: Final = 12
_HEADER: Final = struct.Struct("=IHHII")
_MESSAGE: Final = struct.Struct("=BBBBi")
_ATTRIBUTE: Final = struct.Struct("=HH")
_FAMILIES: Final = {int(socket.AF_INET): V4, int(socket.AF_INET6): V6}


class PeerAddresses:
    """Asks for addresses in other namespaces, from the one of the thread that makes it."""

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)

    def read(self, netnsid: int) -> frozenset[Address]:
        """All addresses in the namespace with this id; raises OSError where it can't be asked."""
        body = (
            _MESSAGE.pack(0, 0, 0, 0, 0)
            + _ATTRIBUTE.pack(8, _IFA_TARGET_NETNSID)
            + struct.pack("=i", netnsid)
        )
        header = _HEADER.pack(_HEADER.size + len(body), _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0)
        self._socket.send(header + body)
        found: set[Address] = set()
        while True:
            for kind, payload in _messages(self._socket.recv(1 << 16)):
                if kind == _NLMSG_DONE:
                    return frozenset(found)
                if kind == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", payload)
                    raise OSError(-code, f"addresses of namespace {netnsid}: {os.strerror(-code)}")
                if kind == _RTM_NEWADDR:
                    found.update(_address(payload))

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, offset)
        yield kind, data[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _address(payload: bytes) -> Iterator[Address]:
    family = _FAMILIES.get(payload[0])
    if family is None:
        return
    values = {}
    offset = _MESSAGE.size
    while offset + _ATTRIBUTE.size <= len(payload):
        length, kind = _ATTRIBUTE.unpack_from(payload, offset)
        values[kind] = payload[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    # On a point-to-point link the address is the peer's, and the local one stands beside it.
    value = values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS))
    if value is not None:
        yield Address(family, int.from_bytes(value))
