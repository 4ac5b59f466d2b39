# SPDX-License-Identifier: Apache-2.0
"""What the operator serves beside kopf's probe: /metrics for Prometheus and /readyz for the Service."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from prometheus_client import CollectorRegistry


@contextlib.asynccontextmanager
async def serving(port: int, registry: CollectorRegistry, ready: Callable[[], bool]) -> AsyncIterator[None]:
    """Serve within the context."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ready") if ready() else web.Response(status=503, text="not synced yet")

    application = web.Application()
    application.add_routes([web.get("/metrics", metrics), web.get("/readyz", readyz)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()  # on all addresses of both families
        yield
    finally:
        await runner.cleanup()
