# SPDX-License-Identifier: Apache-2.0
"""Long work in an event loop, cut into slices so that other tasks wait no longer than one."""

from __future__ import annotations

import asyncio
import time

SLICE_SECONDS = 0.02


class Slices:
    """Counts how long its owner has worked without letting others run."""

    def __init__(self) -> None:
        self._ends = 0.0

    async def breathe(self) -> None:
        """Let others run, where a slice has passed since that was last done."""
        if time.monotonic() > self._ends:
            await asyncio.sleep(0)
            self._ends = time.monotonic() + SLICE_SECONDS
