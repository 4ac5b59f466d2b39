# SPDX-License-Identifier: Apache-2.0
"""Sends the probes of a truth table between namespaces, all at once, and says which came through.

TCP and UDP go through real sockets: a connection that is accepted, a datagram that is echoed. SCTP, for
which many kernels have no sockets, is a crafted INIT that is answered by a crafted INIT ACK. ICMP, chosen
TCP flags and other protocols are raw packets that have to arrive; echo requests have to be answered.

A probe that comes through does so in milliseconds. So the probes that are expected to pass set the pace:
when the last of them is through, the others get a moment more, in which none may.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import selectors
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support import rawpackets
from support.probes import TCP_FLAGS, Probe, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from support.netns import Namespace

_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPv6": 58}
_ECHO = {1: (8, 0), 58: (128, 129)}
_NO_SOCKET = 0  # a protocol that raw sockets don't take
_ETH_P_IP = 0x0800
_FIRST_PORT = 20000
_MOMENT = 0.15
_tokens = itertools.count(0x5743_0001)


def protocol_number(traffic: Traffic) -> int:
    """The IP protocol of a probe."""
    return traffic.protocol if isinstance(traffic.protocol, int) else _NUMBERS[traffic.protocol]


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _payload_of_ip(data: bytes, family: int) -> bytes:
    """What a raw socket of IPv4 gives begins with the IP header, of IPv6 it does not."""
    return data[(data[0] & 15) * 4 :] if family == socket.AF_INET else data


@dataclass(eq=False)
class _Attempt:
    probe: Probe
    token: int
    sender: socket.socket | None = None
    arrived: bool = False


class Prober:
    """Runs probes; `locate` gives the namespace that an address lives in.

    Use it as a context manager: servers stay open until its end, so that later runs need not open them again.
    """

    def __init__(self, locate: Callable[[str], Namespace]) -> None:
        self._locate = locate
        self._stack = contextlib.ExitStack()
        self._selector = self._stack.enter_context(selectors.DefaultSelector())
        self._servers: dict[tuple[int, int, int, tuple[str, int]], socket.socket] = {}
        self._waiting: dict[int, _Attempt] = {}

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def run(self, probes: Sequence[Probe], seconds: float = 3.0) -> list[bool]:
        """Which of the probes came through; those expected to get at most `seconds`."""
        with contextlib.ExitStack() as senders:
            attempts = [_Attempt(probe, next(_tokens)) for probe in probes]
            self._waiting = {attempt.token: attempt for attempt in attempts}
            for attempt in attempts:
                self._serve(attempt.probe)
            for attempt in attempts:
                self._send(attempt, senders)
            deadline = time.monotonic() + seconds
            expected = [attempt for attempt in attempts if attempt.probe.allowed]
            while time.monotonic() < deadline and not all(attempt.arrived for attempt in expected):
                self._turn(0.02)
            moment = time.monotonic() + _MOMENT
            while time.monotonic() < moment:
                self._turn(0.02)
            return [attempt.arrived for attempt in attempts]

    def _turn(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            with contextlib.suppress(OSError):
                key.data(key.fileobj)

    def _socket(self, netns: Namespace, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with netns.entered():
            made = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        if family == socket.AF_INET6 and kind != socket.SOCK_RAW:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return made

    # Servers

    def _serve(self, probe: Probe) -> None:
        netns = self._locate(probe.destination.address)
        family = _family(probe.destination.address)
        number = protocol_number(probe.traffic)
        raw = number not in (6, 17) or probe.traffic.tcp_flags is not None
        # Bound to the address that is called: a server on any address would answer with one of its choice.
        bound = ("", 0) if raw else (probe.destination.address, probe.traffic.port or 0)
        key = netns.fd, family, -number if raw else number, bound
        if key in self._servers:
            return
        if number == _NO_SOCKET:
            server = self._socket(netns, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
            serve = self._take_packet
        elif raw:
            server = self._socket(netns, family, socket.SOCK_RAW, number)
            serve = {132: self._answer_sctp}.get(number, self._take_raw)
        else:
            server = self._socket(netns, family, socket.SOCK_STREAM if number == 6 else socket.SOCK_DGRAM)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(bound)
            if number == 6:
                server.listen(256)
            serve = self._accept if number == 6 else self._echo
        self._servers[key] = self._stack.enter_context(server)
        self._selector.register(server, selectors.EVENT_READ, serve)

    @staticmethod
    def _accept(server: socket.socket) -> None:
        server.accept()[0].close()

    @staticmethod
    def _echo(server: socket.socket) -> None:
        data, sender = server.recvfrom(1 << 16)
        server.sendto(data[:4], sender)

    def _answer_sctp(self, server: socket.socket) -> None:
        data, sender = server.recvfrom(1 << 16)
        chunk = _payload_of_ip(data, server.family)
        if len(chunk) >= 32 and chunk[12] == rawpackets.SCTP_INIT:
            source, destination = struct.unpack_from(">HH", chunk)
            (tag,) = struct.unpack_from(">I", chunk, 16)
            server.sendto(rawpackets.sctp_init(destination, source, tag ^ 1, answer_to=tag), (sender[0], 0))
        elif len(chunk) >= 32:
            self._arrived(*struct.unpack_from(">I", chunk, 4))

    def _take_raw(self, server: socket.socket) -> None:
        data, _ = server.recvfrom(1 << 16)
        message = _payload_of_ip(data, server.family)
        if server.proto in _ECHO and message[0] == _ECHO[server.proto][0]:
            return  # a request; the kernel answers it, and the answer counts
        (token,) = struct.unpack(">I", message[-4:])
        self._arrived(token)

    def _take_packet(self, server: socket.socket) -> None:
        data, about = server.recvfrom(1 << 16)
        if data[9] == _NO_SOCKET and about[2] != socket.PACKET_OUTGOING:
            self._arrived(*struct.unpack(">I", data[-4:]))

    def _arrived(self, token: int) -> None:
        if token in self._waiting:
            self._waiting[token].arrived = True

    # Clients

    def _send(self, attempt: _Attempt, senders: contextlib.ExitStack) -> None:
        probe, traffic = attempt.probe, attempt.probe.traffic
        number = protocol_number(traffic)
        netns = self._locate(probe.source.address)
        family = _family(probe.source.address)
        source, destination = probe.source.address, probe.destination.address
        if number in (6, 17) and traffic.tcp_flags is None:
            sender = self._socket(netns, family, socket.SOCK_STREAM if number == 6 else socket.SOCK_DGRAM)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sender.bind((source, traffic.source_port or 0))
            heard = self._connected if number == 6 else self._heard
        else:
            kind = socket.IPPROTO_RAW if number == _NO_SOCKET else number
            sender = self._socket(netns, family, socket.SOCK_RAW, kind)
            sender.bind((source, 0))
            heard = self._heard_raw
        senders.enter_context(sender)
        senders.callback(self._forget, sender)
        attempt.sender = sender
        if number == 6 and traffic.tcp_flags is None:
            result = sender.connect_ex((destination, traffic.port or 0))
            if result not in (0, errno.EINPROGRESS):
                raise OSError(result, f"{probe}: connect")
            self._selector.register(sender, selectors.EVENT_WRITE, lambda s: heard(s, attempt))
            return
        self._selector.register(sender, selectors.EVENT_READ, lambda s: heard(s, attempt))
        port = (traffic.port or 0) if number == 17 else 0
        sender.sendto(self._message(attempt, number), (destination, port))

    def _forget(self, sender: socket.socket) -> None:
        if sender in self._selector.get_map():
            self._selector.unregister(sender)

    def _message(self, attempt: _Attempt, number: int) -> bytes:
        probe, traffic, token = attempt.probe, attempt.probe.traffic, struct.pack(">I", attempt.token)
        source_port = traffic.source_port or _FIRST_PORT + attempt.token % 30000
        if number == 17:
            return token.ljust(traffic.payload or 0, b"\0")
        if number == 132:
            return rawpackets.sctp_init(source_port, traffic.port or 0, attempt.token)
        if number == 6:
            flags = sum(1 << TCP_FLAGS.index(flag) for flag in traffic.tcp_flags or ())
            ends = (probe.source.address, source_port), (probe.destination.address, traffic.port or 0)
            return rawpackets.tcp_segment(*ends, flags, token)
        if number in _ECHO:
            kind = _ECHO[number][0] if traffic.icmp_type is None else traffic.icmp_type
            return rawpackets.icmp_message(kind, traffic.icmp_code or 0, attempt.token & 0xFFFF, token)
        if number == _NO_SOCKET:
            return rawpackets.ipv4_packet(probe.source.address, probe.destination.address, number, token)
        return token

    def _connected(self, sender: socket.socket, attempt: _Attempt) -> None:
        attempt.arrived = sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        self._selector.unregister(sender)

    def _heard(self, sender: socket.socket, attempt: _Attempt) -> None:
        data, _ = sender.recvfrom(1 << 16)
        attempt.arrived = attempt.arrived or data[:4] == struct.pack(">I", attempt.token)

    def _heard_raw(self, sender: socket.socket, attempt: _Attempt) -> None:
        data, _ = sender.recvfrom(1 << 16)
        message = _payload_of_ip(data, sender.family)
        if sender.proto == 132 and len(message) >= 16 and message[12] == rawpackets.SCTP_INIT_ACK:
            self._arrived(*struct.unpack_from(">I", message, 4))
        elif sender.proto in _ECHO and message[0] == _ECHO[sender.proto][1]:
            self._arrived(*struct.unpack(">I", message[-4:]))
