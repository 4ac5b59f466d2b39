# SPDX-License-Identifier: Apache-2.0
"""What kubelet and Prometheus get from an agent, over real sockets."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter

from wildcard_operator.agent.endpoints import STUCK_SECONDS, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


class Loop:
    """An agent's loop, as far as probes ask about it."""

    is_ready = True
    busy = 0.0

    def ready(self) -> bool:
        return self.is_ready

    def busy_seconds(self) -> float:
        return self.busy


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def base(loop: Loop) -> Iterator[str]:
    registry = CollectorRegistry()
    Counter("seen", "Things seen.", registry=registry).inc(3)
    with serving(0, registry, loop.ready, loop.busy_seconds) as port:
        yield f"http://localhost:{port}"


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - this test's own server
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_are_served(base: str) -> None:
    status, text = get(f"{base}/metrics")

    assert status == 200
    assert "seen_total 3.0" in text


def test_an_agent_is_ready_once_the_kernel_judges_by_its_tables(base: str, loop: Loop) -> None:
    assert get(f"{base}/readyz")[0] == 200
    loop.is_ready = False
    assert get(f"{base}/readyz")[0] == 503


def test_an_agent_is_healthy_until_a_turn_does_not_end(base: str, loop: Loop) -> None:
    loop.busy = STUCK_SECONDS - 1
    assert get(f"{base}/healthz")[0] == 200
    loop.busy = STUCK_SECONDS
    assert get(f"{base}/healthz")[0] == 503


def test_other_paths_are_answered_with_those_that_there_are(base: str) -> None:
    assert get(f"{base}/") == (404, "there are /metrics, /readyz and /healthz\n")


def test_both_families_are_served(base: str) -> None:
    port = base.rpartition(":")[2]

    assert [get(f"http://{host}:{port}/readyz")[0] for host in ("127.0.0.1", "[::1]")] == [200, 200]
