# SPDX-License-Identifier: Apache-2.0
"""What the agent serves: /metrics for Prometheus, /readyz and /healthz for the kubelet.

A thread of its own answers, so a probe says something about the agent's loop and not about itself.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from prometheus_client import CollectorRegistry

STUCK_SECONDS: Final = 120.0
"""The largest commit takes a few seconds: a turn that lasts so long will not end."""


class Answering(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own, on all addresses of both families."""

    daemon_threads = True
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    @override
    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class Quietly(WSGIRequestHandler):
    """Writes no line for each request."""

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(
    port: int, registry: CollectorRegistry, ready: Callable[[], bool], busy_seconds: Callable[[], float]
) -> Iterator[int]:
    """Serve within the context, and yield the port; 0 takes a free one. Raises OSError.

    `ready`: whether the kernel judges by this agent's tables; `busy_seconds`: since when its loop is at work.
    """
    probes = {"/readyz": ready, "/healthz": lambda: busy_seconds() < STUCK_SECONDS}
    server = make_server("", port, _application(make_wsgi_app(registry), probes), Answering, Quietly)
    thread = Thread(target=server.serve_forever, name="endpoints", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _application(metrics: WSGIApplication, probes: dict[str, Callable[[], bool]]) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start)
        if path not in probes:
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"there are /metrics, /readyz and /healthz\n"]
        good = probes[path]()
        start("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"yes\n" if good else b"no\n"]

    return answer
