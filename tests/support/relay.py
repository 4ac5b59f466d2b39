# SPDX-License-Identifier: Apache-2.0
"""Carries TCP connections from a port inside a network namespace to the same port of this process's own
namespace.

So an agent in a node's namespace reaches the API server on loopback; a relay can be cut, and counts what it
carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from support.netns import Namespace


class Relays:
    """The relays of a test, in one thread. Use it as a context manager."""

    def __init__(self) -> None:
        self._relays: list[Relay] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for relay in self._relays:
            self._loop.call_soon_threadsafe(relay.close)
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def open(self, netns: Namespace, port: int) -> Relay:
        """Listen on 127.0.0.1:port in the namespace."""
        with netns.entered():
            listener = socket.create_server(("127.0.0.1", port))
        relay = Relay(self._loop, listener, port)
        asyncio.run_coroutine_threadsafe(relay.start(), self._loop).result(10)
        self._relays.append(relay)
        return relay

    @staticmethod
    async def _end() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Relay:
    """One relay; `received` are the bytes that were carried into the namespace."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: socket.socket, port: int) -> None:
        self.received = 0
        self._loop = loop
        self._listener = listener
        self._port = port
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Begin to carry; in the loop."""
        self._server = await asyncio.start_server(self._carry, sock=self._listener)

    def close(self) -> None:
        """End it for good; in the loop."""
        self._server.close()
        self._drop()

    def cut(self) -> None:
        """Drop all connections and refuse new ones; nothing more is carried when it returns."""
        self._is_cut = True
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    def restore(self) -> None:
        """Carry again."""
        self._is_cut = False

    async def _cut(self) -> None:
        self._drop()

    def _drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        if self._is_cut:
            for end in ends:
                end.transport.abort()
            return
        self._writers |= ends
        try:
            await asyncio.gather(
                self._pump(reader, far_writer, counts=False), self._pump(far_reader, writer, counts=True)
            )
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if counts:
                    self.received += len(data)
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.transport.abort()
