# SPDX-License-Identifier: Apache-2.0
"""A TCP connection that is kept busy while something happens to it."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.netns import Namespace

_TCP_INFO_TOTAL_RETRANS = 100  # struct tcp_info, tcpi_total_retrans
_CHUNK = bytes(16384)


class Stream:
    """A TCP connection over which the server pushes without pause. `received` counts the client's bytes."""

    def __init__(self, client: Namespace, server: Namespace, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with server.entered():
            listener = socket.create_server((address, port), family=family)
        with client.entered():
            self.client = socket.socket(family)
        self.client.settimeout(2)
        self.client.connect((address, port))
        self.server = listener.accept()[0]
        listener.close()
        self.received = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._push), threading.Thread(target=self._pull)]
        for thread in self._threads:
            thread.start()

    def _push(self) -> None:
        self.server.settimeout(0.05)
        while not self._stop.is_set():
            try:
                self.server.send(_CHUNK)
            except TimeoutError:
                continue
            except OSError:
                return
            time.sleep(0.001)

    def _pull(self) -> None:
        self.client.settimeout(0.05)
        while not self._stop.is_set():
            try:
                self.received += len(self.client.recv(1 << 16))
            except TimeoutError:
                continue
            except OSError:
                return

    def flows(self, seconds: float = 0.3) -> bool:
        """Whether anything arrives in a while."""
        before = self.received
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.received > before:
                return True
            time.sleep(0.01)
        return False

    def retransmissions(self) -> int:
        """Segments that either end sent again."""
        return sum(
            struct.unpack_from(
                "=I", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), _TCP_INFO_TOTAL_RETRANS
            )[0]
            for s in (self.client, self.server)
        )

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.client.close()
        self.server.close()
