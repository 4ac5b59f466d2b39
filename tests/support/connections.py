# SPDX-License-Identifier: Apache-2.0
"""Whether a connection comes about: TCP servers in namespaces, and clients that try."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
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


def connects(
    source: Namespace, address: str, port: int, *, own: str | None = None, patience: float = PATIENCE_SECONDS
) -> bool:
    """Whether a TCP connection from a namespace, from its address `own` where given, is established."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with source.entered():
        client = socket.socket(family)
    with client:
        client.settimeout(patience)
        if own is not None:
            client.bind((own, 0))
        try:
            client.connect((address, port))
        except OSError:
            return False
        return True
