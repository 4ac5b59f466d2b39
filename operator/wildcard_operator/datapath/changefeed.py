# SPDX-License-Identifier: Apache-2.0
"""Word that something changed in the network namespace, from multicast groups of netlink.

What changed is not read: whoever is woken reads the present state, so a lost message costs nothing.
"""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


_QUIET_SECONDS: Final = 0.005
_BURST_SECONDS: Final = 0.05


class ChangeFeed:
    """A subscription to groups of a netlink family, in the namespace of the thread that makes it."""

    def __init__(self, family: int, groups: Iterable[int]) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, family)
        self._socket.bind((0, sum(1 << group - 1 for group in groups)))

    def fileno(self) -> int:
        """A descriptor that is readable when something changed."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Forget the changes that were reported so far."""
        while True:
            try:
                self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                continue  # ENOBUFS: some were lost, and everything is read again anyway

    def drain_burst(self) -> None:
        """The same, and wait until no more follow: one look at the state is then enough for all of them.

        Returns when nothing came for 5 ms, and after 50 ms in any case.
        """
        deadline = time.monotonic() + _BURST_SECONDS
        self.drain()
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], min(left, _QUIET_SECONDS))[0]:
                return
            self.drain()

    def close(self) -> None:
        """Let go of the descriptor."""
        self._socket.close()
