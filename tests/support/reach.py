# SPDX-License-Identifier: Apache-2.0
"""One connection, one datagram: whether it gets there."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.netns import Namespace
    from support.topology import Pod


def connects(
    client: Namespace, server: Namespace, called: str, port: int, served: int | None = None, source: str = ""
) -> bool:
    """Whether a TCP connection to `called` reaches a server on port `served`; `source` is the caller's
    address.
    """
    family = socket.AF_INET6 if ":" in called else socket.AF_INET
    with server.entered():
        listener = socket.create_server(("", served or port), family=family, backlog=1)
    with client.entered():
        caller = socket.socket(family)
    with listener, caller:
        if source:
            caller.bind((source, 0))
        caller.settimeout(0.5)  # a dropped SYN is sent again only after a second
        try:
            caller.connect((called, port))
        except TimeoutError:
            return False
        listener.settimeout(1)
        listener.accept()[0].close()
        return True


def datagram_arrives(sender: Pod, sender_port: int, receiver: Pod, port: int, family: int = 4) -> bool:
    """Whether one datagram between these ports of two pods arrives."""
    sockets = []
    for pod, number in ((sender, sender_port), (receiver, port)):
        with pod.netns.entered():
            made = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((pod.address(family), number))
        sockets.append(made)
    with sockets[0], sockets[1]:
        # Until its receiver is found it waits, and what is sent behind it need not: nothing marks its end.
        sockets[1].settimeout(0.3)
        sockets[0].sendto(b"x", (receiver.address(family), port))
        try:
            return sockets[1].recv(10) == b"x"
        except TimeoutError:
            return False
