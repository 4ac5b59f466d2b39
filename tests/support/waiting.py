# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_until(
    condition: Callable[[], object], seconds: float, what: str | Callable[[], str], *, every: float = 0.05
) -> float:
    """Return after how many seconds the condition became true; fail with `what` where it doesn't in time."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"not within {seconds} s: {what if isinstance(what, str) else what()}")
        time.sleep(every)
    return time.monotonic() - started


async def settled(condition: Callable[[], object], seconds: float = 5) -> None:
    """The same inside an event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s")
        await asyncio.sleep(0.005)
