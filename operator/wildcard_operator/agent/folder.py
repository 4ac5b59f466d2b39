# SPDX-License-Identifier: Apache-2.0
"""A folder of manifests: YAML documents, JSON, or a List, in files that people and programs rewrite at any
time.

A file is taken as a whole. One that can't be read, or that holds an object which is refused, leaves what it
said when it was last good in force. Kinds that nobody here asks about are passed over.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import yaml

from wildcard_operator.agent.source import Problem
from wildcard_operator.model.errors import Refusal, RefusedError

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")
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
class _File(Generic[T]):
    stamp: _Stamp | None = None
    good: tuple[T, ...] = ()
    problems: tuple[Problem, ...] = field(default_factory=tuple)


class Folder(Generic[T]):
    """The objects of a folder's files. `parse` makes an object, or None for a kind that is passed over.

    `parse` may raise RefusedError. Raises OSError where the folder itself can't be read.
    """

    def __init__(self, path: Path, parse: Callable[[Any], T | None]) -> None:
        self._path = path
        self._parse = parse
        self._files: dict[str, _File[T]] = {}

    def refresh(self) -> bool:
        """Read the files that were written since the last call; whether any was, or one is gone."""
        present = sorted(path for path in self._path.iterdir() if path.suffix in _SUFFIXES)
        names = {path.name for path in present}
        gone = self._files.keys() - names
        for name in gone:
            del self._files[name]
        read = [self._refresh_file(path) for path in present]
        return bool(gone) or any(read)

    def objects(self) -> Iterator[tuple[str, T]]:
        """(file, object), by file name and place."""
        for name, file in sorted(self._files.items()):
            for item in file.good:
                yield name, item

    def problems(self) -> list[Problem]:
        """What is wrong with the files at present."""
        return [problem for _, file in sorted(self._files.items()) for problem in file.problems]

    def _refresh_file(self, path: Path) -> bool:
        file = self._files.setdefault(path.name, _File())
        try:
            about = path.stat()
            stamp = _Stamp(about.st_ino, about.st_size, about.st_mtime_ns)
            if stamp == file.stamp:
                return False
            file.stamp = stamp
            documents = list(yaml.load_all(path.read_bytes(), Loader))  # noqa: S506 - it is a safe loader
        except FileNotFoundError:
            return False  # between the listing and now; the next event says so
        except (OSError, yaml.YAMLError, UnicodeError, ValueError) as error:
            file.problems = (_unreadable(path.name, error),)
            return True
        objects, problems = [], []
        for document in documents:
            for raw in _items(document):
                try:
                    item = self._parse(raw)
                except RefusedError as error:
                    problems.append(_refused(path.name, error))
                else:
                    objects.extend([] if item is None else [item])
        file.problems = tuple(problems)
        if not problems:
            file.good = tuple(objects)
        return True


def _items(document: Any) -> Iterator[Any]:
    """The objects of one YAML document: none where it is empty, those of a List."""
    if isinstance(document, Mapping) and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _items(item)
    elif isinstance(document, list):
        for item in document:
            yield from _items(item)
    elif document is not None:
        yield document


def _unreadable(name: str, error: Exception) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        message = f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    elif isinstance(error, OSError):
        message = error.strerror or errno.errorcode.get(error.errno or 0, str(error))
    else:
        message = str(error)
    return Problem(name, "", "", "Unreadable", message)


def _refused(name: str, error: RefusedError) -> Problem:
    ref = error.ref
    subject = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
    message = f"{error.path}: {error.message}" if error.path else error.message
    return Problem(name, ref.kind, subject, Refusal(error.reason).value, message)
