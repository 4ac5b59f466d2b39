# SPDX-License-Identifier: Apache-2.0
"""A bpffs of one's own, gone at the end of the block with all that is pinned on it."""

from __future__ import annotations

import ctypes
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MNT_DETACH = 2
_PREFIX = "wildcard-bpffs-"
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _sweep() -> None:
    """Unmount what processes left that were killed: pinned links would keep their namespaces alive."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            _libc.umount2(os.fsencode(folder), _MNT_DETACH)
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def mounted_bpffs() -> Iterator[Path]:
    """A bpffs in a folder of its own. Links that are pinned there detach at the end."""
    _sweep()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        target = os.fsencode(folder)
        _check(_libc.mount(b"bpf", target, b"bpf", 0, None), "mount bpffs")
        try:
            yield Path(folder)
        finally:
            _check(_libc.umount2(target, _MNT_DETACH), "unmount bpffs")
