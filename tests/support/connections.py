# SPDX-License-Identifier: Apache-2.0
"""Whether a connection comes about: TCP servers in namespaces, and clients that try."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.netns import Namespace

# An allowed connection takes less than a millisecond between namespaces; a forbidden one is given up after
# this.
PATIENCE_SECONDS = 0.25


class Servers:
    """Listening sockets; the kernel completes the handshakes. Use it as a context manager."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def listen(self, netns: Namespace, *ports: int) -> None:
        """Listen on all addresses of a namespace."""
        for port in ports:
            with netns.entered():
                server = self._stack.enter_context(socket.socket(socket.AF_INET6))
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.bind(("::", port))
            server.listen(4096)


class Attempt(NamedTuple):
    """One connection to try, from the source's address `own` where given."""

    source: Namespace
    address: str
    port: int
    own: str | None = None


def connects(
    source: Namespace, address: str, port: int, *, own: str | None = None, patience: float = PATIENCE_SECONDS
) -> bool:
    """Whether a TCP connection from a namespace is established."""
    return established([Attempt(source, address, port, own)], patience)[0]


def established(attempts: Sequence[Attempt], patience: float = PATIENCE_SECONDS) -> list[bool]:
    """Which of several TCP connections, all begun at once, are established."""
    answers = [False] * len(attempts)
    deadline = time.monotonic() + patience
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for number, attempt in enumerate(attempts):
            client = stack.enter_context(_client(attempt))
            if client.connect_ex((attempt.address, attempt.port)) in {0, errno.EINPROGRESS}:
                selector.register(client, selectors.EVENT_WRITE, number)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                selector.unregister(key.fileobj)
                answers[key.data] = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    return answers


def _client(attempt: Attempt) -> socket.socket:
    with attempt.source.entered():
        client = socket.socket(socket.AF_INET6 if ":" in attempt.address else socket.AF_INET)
    client.setblocking(False)
    if attempt.own is not None:
        client.bind((attempt.own, 0))
    return client
