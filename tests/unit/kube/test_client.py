# SPDX-License-Identifier: Apache-2.0
"""What the client takes from its environment."""

from __future__ import annotations

import pytest

from wildcard_operator.kube.client import proxy_for

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
