# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


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


def wait_until_still(look: Callable[[], T], still: float, seconds: float, what: str) -> T:
    """What `look` gives, once it has been the same for `still` seconds; fail with `what` if it never is."""
    seen, since = look(), time.monotonic()

    def is_still() -> bool:
        nonlocal seen, since
        now = look()
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > still

    wait_until(is_still, seconds, what, every=0.02)
    return seen


async def settled(condition: Callable[[], object], seconds: float = 20) -> None:
    """The same inside an event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s")
        await asyncio.sleep(0.005)
