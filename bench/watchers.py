# SPDX-License-Identifier: Apache-2.0
"""Watchers of everything that is published, that only count bytes: `watchers.py COUNT FOLDER PORT`.

FOLDER has the certificates of the control plane that listens on PORT of the loopback.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.manifests import NAMESPACE
from wildcard_operator.kube.api import ADDRESS_SETS, RULE_SETS


def watch_and_count(count: int, folder: Path, port: int) -> None:
    """Open the watches of `count` agents; for each line on standard input print the bytes received so far."""
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    received = 0

    async def follow(path: str) -> None:
        nonlocal received
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        writer.write(f"GET {path}?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while data := await reader.read(1 << 16):
            received += len(data)

    async def run() -> None:
        paths = [resource.path(NAMESPACE) for resource in (RULE_SETS, ADDRESS_SETS)] * count
        tasks = [asyncio.create_task(follow(path)) for path in paths]
        before = -1
        while before != received or not received:  # the lists
            before = received
            await asyncio.sleep(1)
        while await asyncio.to_thread(sys.stdin.readline):
            await asyncio.sleep(0.3)  # what is under way
            sys.stdout.write(f"{received}\n")
            sys.stdout.flush()
        for task in tasks:
            task.cancel()

    asyncio.run(run())


if __name__ == "__main__":
    watch_and_count(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
