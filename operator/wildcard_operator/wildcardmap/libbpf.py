# SPDX-License-Identifier: Apache-2.0
"""BPF objects through libbpf (>= 1.1), by ctypes: open, set up, load, and take the file descriptors.

libbpf does what must not be written twice: ELF, CO-RE relocation, kfuncs, BTF upload. A failed load raises
``LoadError`` with the end of the verifier's log.
"""

import ctypes
import ctypes.util
import errno
import functools
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

OBJECTS = Path(__file__).resolve().parent.parent / "objects"
_LOG_LINES = 40
_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class LoadError(OSError):
    """The kernel or libbpf refused an object; the message ends with the verifier's last lines."""


class _Log:
    """Collects what libbpf would print to stderr."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._libc = ctypes.CDLL(None)
        self.callback = _PRINT(self._print)

    def _print(self, _level: int, template: bytes, arguments: int) -> int:
        buffer = ctypes.create_string_buffer(1 << 16)
        self._libc.vsnprintf(buffer, ctypes.c_size_t(len(buffer)), template, ctypes.c_void_p(arguments))
        self.lines.extend(buffer.value.decode(errors="replace").splitlines())
        del self.lines[:-400]
        return 0

    def tail(self) -> str:
        return "\n".join(self.lines[-_LOG_LINES:])


_log = _Log()


@functools.cache
def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("bpf") or "libbpf.so.1"
    try:
        lib = ctypes.CDLL(name, use_errno=True)
    except OSError as error:
        raise LoadError(errno.ENOENT, "libbpf.so.1 is missing: install the package libbpf1") from error
    pointer, text, integer, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
    for function, result, arguments in (
        ("bpf_object__open_file", pointer, [text, pointer]),
        ("bpf_object__load", integer, [pointer]),
        ("bpf_object__close", None, [pointer]),
        ("bpf_object__find_map_by_name", pointer, [pointer, text]),
        ("bpf_object__find_program_by_name", pointer, [pointer, text]),
        ("bpf_map__fd", integer, [pointer]),
        ("bpf_map__reuse_fd", integer, [pointer, integer]),
        ("bpf_map__set_value_size", integer, [pointer, ctypes.c_uint32]),
        ("bpf_map__initial_value", pointer, [pointer, ctypes.POINTER(size)]),
        ("bpf_program__fd", integer, [pointer]),
        ("bpf_program__set_type", integer, [pointer, integer]),
        ("bpf_program__set_expected_attach_type", integer, [pointer, integer]),
        ("bpf_program__set_autoload", integer, [pointer, ctypes.c_bool]),
    ):
        entry = getattr(lib, function)
        entry.restype, entry.argtypes = result, arguments
    lib.libbpf_set_print.restype = pointer
    lib.libbpf_set_print.argtypes = [_PRINT]
    lib.libbpf_set_print(_log.callback)
    return lib


class BpfObject:
    """One BPF object file: ``open``, adjust maps and programs, ``load``, read descriptors, ``close``.

    Descriptors belong to the object and close with it; ``os.dup`` or pin what shall outlive it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lib = _library()
        if not path.is_file():
            raise LoadError(errno.ENOENT, f"{path} is missing: build it with `make bpf`")
        _log.lines.clear()
        handle = self._lib.bpf_object__open_file(os.fsencode(path), None)
        if not handle:
            raise self._error(ctypes.get_errno(), "open")
        self._handle = ctypes.c_void_p(handle)

    def _error(self, code: int, verb: str) -> LoadError:
        detail = _log.tail()
        return LoadError(
            code, f"cannot {verb} {self.path.name}: {os.strerror(code)}" + (f"\n{detail}" if detail else "")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor that the object holds; what is pinned or attached stays."""
        if self._handle:
            self._lib.bpf_object__close(self._handle)
            self._handle = ctypes.c_void_p()

    def _map(self, name: str) -> ctypes.c_void_p:
        found = self._lib.bpf_object__find_map_by_name(self._handle, name.encode())
        if not found:
            raise LoadError(errno.ENOENT, f"{self.path.name} has no map {name}")
        return ctypes.c_void_p(found)

    def _program(self, name: str) -> ctypes.c_void_p:
        found = self._lib.bpf_object__find_program_by_name(self._handle, name.encode())
        if not found:
            raise LoadError(errno.ENOENT, f"{self.path.name} has no program {name}")
        return ctypes.c_void_p(found)

    def _check(self, result: int, verb: str) -> None:
        if result < 0:
            raise self._error(-result, verb)

    def reuse_map(self, name: str, fd: int) -> None:
        """Make the programs use the open map ``fd`` for ``name``; call before ``load``."""
        self._check(self._lib.bpf_map__reuse_fd(self._map(name), fd), f"reuse map {name} of")

    def set_constants(self, section: str, data: bytes, offset: int = 0) -> None:
        """Write ``data`` into a section (``.rodata``); call before ``load``, then the verifier knows it."""
        available = ctypes.c_size_t()
        at = self._lib.bpf_map__initial_value(self._map(section), ctypes.byref(available))
        if not at or offset + len(data) > available.value:
            raise LoadError(
                errno.EINVAL, f"{self.path.name}: {section} has no room for {len(data)} bytes at {offset}"
            )
        ctypes.memmove(at + offset, data, len(data))

    def set_program_type(self, name: str, kind: int, attach_type: int) -> None:
        """Give a program the kernel's numbers of its type; for sections that this libbpf does not know."""
        program = self._program(name)
        self._check(self._lib.bpf_program__set_type(program, kind), f"set type of {name} in")
        self._check(
            self._lib.bpf_program__set_expected_attach_type(program, attach_type), f"set type of {name} in"
        )

    def load_only(self, all_programs: Iterable[str], wanted: Iterable[str]) -> None:
        """Leave out the programs of ``all_programs`` that are not ``wanted``."""
        keep = set(wanted)
        for name in all_programs:
            self._lib.bpf_program__set_autoload(self._program(name), name in keep)

    def load(self) -> Self:
        """Create the maps and load the programs; raises ``LoadError`` with the verifier's last words."""
        self._check(self._lib.bpf_object__load(self._handle), "load")
        return self

    def map_fd(self, name: str) -> int:
        """Return the descriptor of a loaded map."""
        return int(self._lib.bpf_map__fd(self._map(name)))

    def program_fd(self, name: str) -> int:
        """Return the descriptor of a loaded program."""
        return int(self._lib.bpf_program__fd(self._program(name)))
