# SPDX-License-Identifier: Apache-2.0
"""A bound on how often something is done."""

from __future__ import annotations

import asyncio
import time


class TokenBucket:
    """`rate` tokens a second; up to a tenth of a second's worth is saved up."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._burst = max(0.1, self._interval)
        self._next = 0.0

    async def take(self) -> None:
        """Wait for a token; those who wait are served in their order."""
        now = time.monotonic()
        self._next = max(self._next, now - self._burst) + self._interval
        if self._next > now:
            await asyncio.sleep(self._next - now)
