# SPDX-License-Identifier: Apache-2.0
"""A bpffs of one's own, gone at the end of the block with all that is pinned on it."""

from __future__ import annotations

import ctypes
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


@contextmanager
def mounted_bpffs() -> Iterator[Path]:
    """A bpffs in a folder of its own. Links that are pinned there detach at the end."""
    with tempfile.TemporaryDirectory(prefix=f"wildcard-bpffs-{os.getpid()}-") as folder:
        target = os.fsencode(folder)
        _check(_libc.mount(b"bpf", target, b"bpf", 0, None), "mount bpffs")
        try:
            yield Path(folder)
        finally:
            _check(_libc.umount2(target, _MNT_DETACH), "unmount bpffs")
