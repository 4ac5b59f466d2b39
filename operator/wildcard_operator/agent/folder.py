# SPDX-License-Identifier: Apache-2.0
"""A folder of manifests: YAML documents, JSON, or a List, in files that people and programs rewrite at any
time.

A file that can't be read leaves in force what it said when it last could.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from wildcard_operator.agent.source import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
_IN_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC
# IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_ATTRIB, IN_DELETE_SELF
_IN_CHANGES: Final = 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x4 | 0x400


class FolderWatch:
    """Wakes up when something in a folder changes: the kernel's inotify."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = libc.inotify_init1(_IN_NONBLOCK_CLOEXEC)
        if self._fd < 0 or libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_CHANGES) < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot watch {folder}: {os.strerror(code)}")

    def fileno(self) -> int:
        """Readable when something changed."""
        return self._fd

    def drain(self) -> None:
        """Forget what was reported so far."""
        with suppress(BlockingIOError):
            while os.read(self._fd, 1 << 16):
                pass

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells that a file was written again; a link into a folder that is swapped counts too."""

    inode: int
    size: int
    modified: int


@dataclass(slots=True)
class _File:
    stamp: _Stamp | None = None
    good: tuple[Any, ...] = ()
    problem: Problem | None = None


class Folder:
    """The documents of a folder's files. Raises OSError where the folder itself can't be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: dict[str, _File] = {}

    def refresh(self) -> bool:
        """Read the files that were written since the last call; whether any was, or one is gone."""
        present = sorted(path for path in self._path.iterdir() if path.suffix in _SUFFIXES)
        gone = self._files.keys() - {path.name for path in present}
        for name in gone:
            del self._files[name]
        read = [self._refresh_file(path) for path in present]
        return bool(gone) or any(read)

    def documents(self) -> Iterator[tuple[str, Any]]:
        """(file, document), by file name and place."""
        for name, file in sorted(self._files.items()):
            for document in file.good:
                yield name, document

    def problems(self) -> list[Problem]:
        """Files that can't be read at present."""
        return [file.problem for _, file in sorted(self._files.items()) if file.problem]

    def _refresh_file(self, path: Path) -> bool:
        file = self._files.setdefault(path.name, _File())
        try:
            about = path.stat()
            stamp = _Stamp(about.st_ino, about.st_size, about.st_mtime_ns)
            if stamp == file.stamp:
                return False
            file.stamp = stamp
            file.good = tuple(yaml.load_all(path.read_bytes(), Loader))
            file.problem = None
        except FileNotFoundError:
            return False  # between the listing and now; the next event says so
        except (OSError, yaml.YAMLError, ValueError) as error:
            file.problem = _unreadable(path.name, error)
        return True


def _unreadable(name: str, error: Exception) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        message = f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    elif isinstance(error, OSError):
        message = error.strerror or errno.errorcode.get(error.errno or 0, str(error))
    else:
        message = str(error)
    return Problem(name, "", "", "Unreadable", message)
