# SPDX-License-Identifier: Apache-2.0
"""What holds for every test."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import types

    import pytest


def pytest_sessionstart(session: pytest.Session) -> None:
    """End on SIGTERM as on Ctrl-C: what tests have made is removed, and no other test begins."""

    def stop(number: int, frame: types.FrameType | None) -> None:
        session.shouldstop = "terminated"  # an interrupt in a callback, of libbpf above all, is lost
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
