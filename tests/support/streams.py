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
_TCP_INFO_BYTES_RECEIVED = 128  # tcpi_bytes_received
_CHUNK = bytes(16384)


class Stream:
    """A TCP connection over which the server pushes without pause."""

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
                self.client.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError:
                return

    @property
    def received(self) -> int:
        """Bytes that the client's kernel has received: its thread may be late to read what came long ago."""
        return _tcp_info(self.client, "=Q", _TCP_INFO_BYTES_RECEIVED)

    def flows(self, seconds: float = 5) -> bool:
        """Whether anything more arrives within a while."""
        before = self.received
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.received > before:
                return True
            time.sleep(0.01)
        return False

    def stands_still(self) -> bool:
        """Whether nothing more arrives. TCP would send again within 0.3 s, and whatever passed would show."""
        return not self.flows(0.3)

    def retransmissions(self) -> int:
        """Segments that either end sent again."""
        return sum(_tcp_info(end, "=I", _TCP_INFO_TOTAL_RETRANS) for end in (self.client, self.server))

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.client.close()
        self.server.close()


def _tcp_info(end: socket.socket, form: str, offset: int) -> int:
    (value,) = struct.unpack_from(form, end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), offset)
    return int(value)
