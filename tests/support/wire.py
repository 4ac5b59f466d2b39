# SPDX-License-Identifier: Apache-2.0
"""Frames of one's own making, put on a namespace's interface and caught at another's.

A packet is recognised by a token that no other carries.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Self

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

if TYPE_CHECKING:
    from support.netns import Namespace
    from support.topology import Node, Pod

_ETH_P_ALL = 0x0003
_numbers = itertools.count(1)


def token() -> bytes:
    """Eight bytes that no other packet carries."""
    return b"wc" + os.getpid().to_bytes(3) + next(_numbers).to_bytes(3)


def mac_of(netns: Namespace, ifname: str) -> str:
    """The hardware address of an interface."""
    return str(next(iter(netns.netlink.get_links(netns.index(ifname)))).get_attr("IFLA_ADDRESS"))


class Wire:
    """A raw socket on one interface of a namespace. Use it as a context manager."""

    def __init__(self, netns: Namespace, ifname: str = "eth0") -> None:
        with netns.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.bind((ifname, _ETH_P_ALL))
        self.mac = mac_of(netns, ifname)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, frame: Packet | bytes) -> None:
        """Put a frame on the wire as it is."""
        self._socket.send(bytes(frame))

    def catches(self, mark: bytes, seconds: float = 2) -> bool:
        """Whether a frame that holds `mark` comes in within some time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                data, about = self._socket.recvfrom(1 << 16)
                if mark in data and about[2] != socket.PACKET_OUTGOING:
                    return True
        return False


class Sender:
    """Sends from a pod to another, and says what came through. Use it as a context manager."""

    def __init__(self, node: Node, source: Pod, destination: Pod) -> None:
        self.source, self.destination = source, destination
        self._out, self._in = Wire(source.netns), Wire(destination.netns)
        peer = self._in.mac if node.cni == "bridge" else mac_of(node.netns, source.host_ifname)
        self.ethernet = Ether(src=self._out.mac, dst=peer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._out.close()
        self._in.close()

    def ip(self, family: int, **fields: object) -> Packet:
        """An IP header from the source to the destination."""
        layer = IPv6 if family == 6 else IP
        ends = {"src": self.source.address(family), "dst": self.destination.address(family)}
        return layer(**{**ends, **fields})

    def passes(self, packet: Packet, *, seconds: float = 0.3, bare: bool = False) -> bool:
        """Send an IP packet with a token behind it, or as it is; whether it arrives."""
        if bare:
            return self.frame_passes(self.ethernet / packet, bytes(packet)[-20:], seconds=seconds)
        mark = token()
        return self.frame_passes(self.ethernet / packet / Raw(mark), mark, seconds=seconds)

    def frame_passes(self, frame: Packet | bytes, mark: bytes, *, seconds: float = 0.3) -> bool:
        """Send a whole frame that holds `mark`; whether it arrives."""
        self._out.send(frame)
        return self._in.catches(mark, seconds)
