# SPDX-License-Identifier: Apache-2.0
"""`Api` over HTTP: the transport, the credentials and their refresh are the Kubernetes client's."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from wildcard_operator.kube.api import JSON, UNREACHABLE, ApiError, Json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path
    from types import TracebackType

CONNECT_SECONDS = 10
# The server sends a bookmark about once a minute: a watch that is silent for longer has lost its connection.
SILENT_WATCH_SECONDS = 150
# A page of 500 pods is about 2 MB; a watch event is seldom more than a few kB.
READ_BUFFER_BYTES = 2**16
# The last: a proxy in between answers with something of its own.
_NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


async def load_configuration(kubeconfig: Path | None) -> Configuration:
    """The configuration of a kubeconfig file, or without one of the pod that this process runs in."""
    configuration = Configuration(
        client_session_kwargs={
            "read_bufsize": READ_BUFFER_BYTES,
            # Else every request looks for a proxy and a .netrc anew, in other threads.
            "trust_env": False,
        }
    )
    if kubeconfig is None:
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(
            str(kubeconfig), client_configuration=configuration, persist_config=False
        )
    configuration.proxy = configuration.proxy or proxy_for(configuration.host)
    return configuration


def proxy_for(url: str) -> str | None:
    """The proxy that HTTPS_PROXY and NO_PROXY name for a server, as in every client of Kubernetes."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


class HttpApi:
    """A connection to a real API server; an async context manager, for the event loop that entered it."""

    def __init__(self, configuration: Configuration, user_agent: str = "wildcard-operator") -> None:
        self._configuration = configuration
        self._user_agent = user_agent
        self._rest = RESTClientObject(configuration)
        self._unreachable = False
        self._reached = asyncio.Event()

    async def __aenter__(self) -> HttpApi:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._rest.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout: float = 60,
    ) -> Json:
        """Make one request and return the object that it answers with. Raises ApiError."""
        limits = aiohttp.ClientTimeout(total=timeout, connect=CONNECT_SECONDS)
        try:
            response = await self._send(method, path, query, body, content_type, accept, limits)
            async with response:
                content = await response.read()
                if response.status >= 400:
                    raise error_of(response.status, response.headers, content)
                answer: Json = json.loads(content)
        except _NO_ANSWER as error:
            raise unreachable(f"{method} {path}", error) from error
        return answer

    async def watch(
        self, path: str, query: Mapping[str, str], *, accept: str = JSON
    ) -> AsyncGenerator[Json, None]:
        """Yield the events of a watch until the server ends it. Raises ApiError; closing it ends the
        request.
        """
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=SILENT_WATCH_SECONDS)
        try:
            response = await self._send("GET", path, {**query, "watch": "true"}, None, JSON, accept, limits)
            async with response:
                if response.status >= 400:
                    raise error_of(response.status, response.headers, await response.read())
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
                    for line in lines:
                        if line:
                            yield json.loads(line)
        except _NO_ANSWER as error:
            raise unreachable(f"watch {path}", error) from error

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until a request reaches the server again."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reached.wait(), seconds)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Json | None,
        content_type: str,
        accept: str,
        limits: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": self._user_agent}
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            answer = await self._rest.request(
                method, url, headers=headers, body=body, _request_timeout=limits
            )
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._unreachable = True
            raise
        if self._unreachable:
            self._unreachable = False
            self._reached.set()  # wakes those that wait; later ones wait for the next time
            self._reached = asyncio.Event()
        response: aiohttp.ClientResponse = answer.response
        return response


def unreachable(request: str, error: Exception) -> ApiError:
    """The error for a request that no API server has answered."""
    return ApiError(UNREACHABLE, "Unreachable", f"{request}: {error or type(error).__name__}")


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
    """The error that an answer stands for: mostly a `Status` object, else text of some proxy in between."""
    try:
        parsed: Any = json.loads(content)
    except ValueError:
        parsed = None
    body: Json = parsed if isinstance(parsed, dict) else {"message": content[:200].decode(errors="replace")}
    details = body.get("details") or {}
    asked = headers.get("Retry-After", details.get("retryAfterSeconds"))
    try:
        retry_after = None if asked is None else float(asked)
    except ValueError:  # the header may be a date
        retry_after = None
    return ApiError(status, str(body.get("reason", "")), str(body.get("message", "")), retry_after)
