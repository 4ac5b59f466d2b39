# SPDX-License-Identifier: Apache-2.0
"""Frames of one's own making, put on a namespace's interface and caught at another's.

A packet is recognised by a token that no other carries. Whether it is dropped is not a question of time: one
that every rule lets pass is sent behind it, on the same processor, so they stay in order.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.netns import Namespace
    from support.topology import Node, Pod

_ETH_P_ALL = 0x0003
_NUD_PERMANENT = 0x80
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

    def first_of(self, *marks: bytes, seconds: float = 10) -> bytes:
        """The mark of the first frame that comes in and holds one of these; fails if none does in time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                data, about = self._socket.recvfrom(1 << 16)
                found = [mark for mark in marks if mark in data]
                if found and about[2] != socket.PACKET_OUTGOING:
                    return found[0]
        raise AssertionError(f"none of {len(marks)} frames came in within {seconds} s")


@contextmanager
def in_order() -> Iterator[None]:
    """Keep this thread on one processor: packets that it sends meanwhile overtake each other nowhere."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


class Sender:
    """Sends from a pod to another, and says what came through. Use it as a context manager."""

    def __init__(self, node: Node, source: Pod, destination: Pod) -> None:
        self.source, self.destination = source, destination
        self._out, self._in = Wire(source.netns), Wire(destination.netns)
        peer = self._in.mac if node.cni == "bridge" else mac_of(node.netns, source.host_ifname)
        self.ethernet = Ether(src=self._out.mac, dst=peer)
        for address in destination.addresses if node.cni == "ptp" else ():
            # A packet that waits for its receiver to be found would be overtaken.
            node.netns.netlink.neigh(
                "replace",
                dst=address,
                lladdr=self._in.mac,
                ifindex=destination.host_index,
                state=_NUD_PERMANENT,
            )

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

    def send(self, frame: Packet | bytes) -> None:
        """Put a frame on the source's wire as it is."""
        self._out.send(frame)

    def passes(self, packet: Packet, *, bare: bool = False) -> bool:
        """Send an IP packet with a token behind it, or as it is; whether it arrives."""
        if bare:
            return self.frame_passes(self.ethernet / packet, bytes(packet)[-20:])
        mark = token()
        return self.frame_passes(self.ethernet / packet / Raw(mark), mark)

    def frame_passes(self, frame: Packet | bytes, mark: bytes) -> bool:
        """Send a whole frame that holds `mark`; whether it arrives."""
        end = token()
        with in_order():
            self._out.send(frame)
            self._out.send(self.ethernet / self.ip(6) / ICMPv6PacketTooBig(mtu=1280) / Raw(end))
        return self._in.first_of(mark, end) == mark
