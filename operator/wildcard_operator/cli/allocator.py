# SPDX-License-Identifier: Apache-2.0
"""The C library's allocator, for a process that needs much memory now and then."""

from __future__ import annotations

import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_LARGE: Final = 128 * 1024


def save_memory() -> None:
    """Let every block of 128 KiB and more go back to the system when it is freed, and threads share a heap.

    glibc begins so, and then raises the bound to the size of each such block that is freed, up to 32 MiB.
    What a commit of a hundred thousand addresses takes for a moment would stay with the process: 33 of 139
    MiB. Heaps of their own (3 MiB) are of no use to threads that take turns. Another C library is left as it
    is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_ARENA_MAX, 1)
