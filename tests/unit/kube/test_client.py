# SPDX-License-Identifier: Apache-2.0
"""What the client takes from its environment, and for an answer."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from wildcard_operator.kube.api import PODS, UNREACHABLE, ApiError
from wildcard_operator.kube.client import HttpApi, proxy_for

PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("exempt", "server", "proxy"),
    [
        ("", "https://api.example:6443", PROXY),
        ("", "http://api.example:8080", None),
        ("10.96.0.1,.internal", "https://10.96.0.1:443", None),
        ("10.96.0.1,.internal", "https://api.internal:6443", None),
        ("10.96.0.1,.internal", "https://api.example:6443", PROXY),
    ],
)
def test_the_proxy_of_the_environment_is_used_but_for_exempt_servers(
    monkeypatch: pytest.MonkeyPatch, exempt: str, server: str, proxy: str | None
) -> None:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", PROXY)
    monkeypatch.setenv("no_proxy", exempt)

    assert proxy_for(server) == proxy


async def ask_a_portal(watch: bool) -> None:
    """Ask a server that answers everything with a page for people."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>\nlog in first\n</html>", content_type="text/html")

    application = web.Application()
    application.add_routes([web.get("/{any:.*}", page)])
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with HttpApi(Configuration(host=f"http://127.0.0.1:{port}")) as api:
            if watch:
                async for _event in api.watch(PODS.path(), {}):
                    pass
            else:
                await api.request("GET", PODS.path())
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("watch", [False, True])
def test_an_answer_that_no_api_server_gives_counts_as_none(watch: bool) -> None:
    with pytest.raises(ApiError) as caught:
        asyncio.run(ask_a_portal(watch))

    assert caught.value.status == UNREACHABLE
