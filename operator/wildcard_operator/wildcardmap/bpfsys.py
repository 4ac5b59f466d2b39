# SPDX-License-Identifier: Apache-2.0
"""The bpf(2) commands that this project uses, one function each.

Source: include/uapi/linux/bpf.h. Every function raises ``OSError`` with the kernel's errno. File descriptors
are plain ints, opened close-on-exec by the kernel; the caller closes them.
"""

import contextlib
import ctypes
import enum
import os
import platform
import struct
from pathlib import Path

_SYSCALL_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_NR_BPF = _SYSCALL_NUMBERS.get(platform.machine(), 280)
_ATTR_SIZE = 152
_libc = ctypes.CDLL(None, use_errno=True)


class Command(enum.IntEnum):
    """bpf(2) commands."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_TEST_RUN = 10
    OBJ_GET_INFO_BY_FD = 15
    MAP_LOOKUP_BATCH = 24
    LINK_CREATE = 28
    LINK_UPDATE = 29


class MapType(enum.IntEnum):
    """Map types."""

    HASH = 1
    ARRAY = 2
    PERCPU_ARRAY = 6
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    RINGBUF = 27


F_NO_PREALLOC = 1 << 0
F_MMAPABLE = 1 << 10
_XDP_PASS = 2


class _Pointer:
    """A buffer of these bytes, or of so many, whose address stands in an attr; it outlives the call."""

    def __init__(self, data: bytes | int) -> None:
        self._buffer = ctypes.create_string_buffer(data, data if isinstance(data, int) else len(data))

    @property
    def address(self) -> int:
        """Where it lies."""
        return ctypes.addressof(self._buffer)

    @property
    def raw(self) -> bytes:
        """What is in it."""
        return self._buffer.raw


def call(command: Command, attr: bytes, what: str) -> int:
    """Run one bpf(2) command with ``attr`` (the used prefix of union bpf_attr); returns its result."""
    buffer = ctypes.create_string_buffer(attr, _ATTR_SIZE)
    result = int(_libc.syscall(_NR_BPF, int(command), buffer, _ATTR_SIZE))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def map_create(
    kind: MapType,
    *,
    key_size: int,
    value_size: int,
    max_entries: int,
    flags: int = 0,
    name: str = "",
    inner_map_fd: int = 0,
) -> int:
    """Create a map; sizes in bytes. The name is cut to the kernel's 15 characters."""
    short = name.replace("-", "_").encode()[:15]
    attr = struct.pack("=IIIIIII16s", kind, key_size, value_size, max_entries, flags, inner_map_fd, 0, short)
    return call(Command.MAP_CREATE, attr, f"create map {name or kind.name}")


def map_lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """Return the value of ``key`` or None; ``value_size``: bytes, of all possible CPUs for per-CPU maps."""
    key_at, value_at = _Pointer(key), _Pointer(value_size)
    try:
        call(
            Command.MAP_LOOKUP_ELEM,
            struct.pack("=IxxxxQQQ", fd, key_at.address, value_at.address, 0),
            "lookup",
        )
    except FileNotFoundError:
        return None
    return value_at.raw


def map_update(fd: int, key: bytes, value: bytes, flags: int = 0) -> None:
    """Set the value of ``key``; an update of a map-in-map returns after a grace period (kernel's promise)."""
    key_at, value_at = _Pointer(key), _Pointer(value)
    attr = struct.pack("=IxxxxQQQ", fd, key_at.address, value_at.address, flags)
    call(Command.MAP_UPDATE_ELEM, attr, "update")


def map_delete(fd: int, key: bytes) -> None:
    """Delete ``key``; ENOENT where it is not there."""
    key_at = _Pointer(key)
    call(Command.MAP_DELETE_ELEM, struct.pack("=IxxxxQQQ", fd, key_at.address, 0, 0), "delete")


def map_keys(fd: int, key_size: int) -> list[bytes]:
    """Return every key of a map, in the kernel's order."""
    keys: list[bytes] = []
    following = _Pointer(key_size)
    previous = 0
    while True:
        try:
            attr = struct.pack("=IxxxxQQ", fd, previous, following.address)
            call(Command.MAP_GET_NEXT_KEY, attr, "next key")
        except FileNotFoundError:
            return keys
        keys.append(following.raw)
        current = _Pointer(keys[-1])
        previous = current.address
        # The next call reads the buffer, so it must outlive this iteration.
        following, _kept = _Pointer(key_size), current


def pin(fd: int, path: Path) -> None:
    """Pin an object on bpffs; the folder must exist and names must not contain dots."""
    name = _Pointer(os.fsencode(path) + b"\0")
    call(Command.OBJ_PIN, struct.pack("=QIIi", name.address, fd, 0, 0), f"pin {path}")


def get_pinned(path: Path) -> int:
    """Open a pinned object."""
    name = _Pointer(os.fsencode(path) + b"\0")
    return call(Command.OBJ_GET, struct.pack("=QIIi", name.address, 0, 0, 0), f"open {path}")


class MapInfo(tuple[int, int, int, int, int]):
    """(type, key size, value size, max entries, flags) of a map; sizes in bytes."""

    __slots__ = ()
    type = property(lambda self: self[0])
    key_size = property(lambda self: self[1])
    value_size = property(lambda self: self[2])
    max_entries = property(lambda self: self[3])
    flags = property(lambda self: self[4])


def object_info(fd: int, size: int) -> bytes:
    """Return the first ``size`` bytes of the kernel's info record of a map, program or link."""
    info = _Pointer(size)
    call(Command.OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", fd, size, info.address), "object info")
    return info.raw


def map_info(fd: int) -> MapInfo:
    """Return the kernel's description of an open map."""
    kind, _id, key_size, value_size, max_entries, flags = struct.unpack("=6I", object_info(fd, 24))
    return MapInfo((kind, key_size, value_size, max_entries, flags))


def run_syscall_program(fd: int, context: bytes) -> tuple[int, bytes]:
    """Run a SEC("syscall") program once; returns (its result, the context as it left it)."""
    context_at = _Pointer(context)
    attr = bytearray(_ATTR_SIZE)
    struct.pack_into("=II", attr, 0, fd, 0)
    struct.pack_into("=II", attr, 40, len(context), 0)
    struct.pack_into("=Q", attr, 48, context_at.address)
    buffer = ctypes.create_string_buffer(bytes(attr), _ATTR_SIZE)
    if _libc.syscall(_NR_BPF, int(Command.PROG_TEST_RUN), buffer, _ATTR_SIZE) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"run program: {os.strerror(code)}")
    (result,) = struct.unpack_from("=I", buffer.raw, 4)
    return result, context_at.raw


def link_create(program_fd: int, attach_type: int, target: int, options: bytes, flags: int = 0) -> int:
    """Attach a program by a link; ``options`` is the part of the attr behind ``flags`` for its type."""
    attr = struct.pack("=IIII", program_fd, target, attach_type, flags) + options
    return call(Command.LINK_CREATE, attr, "create link")


def link_update(fd: int, program_fd: int) -> None:
    """Give a link another program, with no packet that sees none; EOPNOTSUPP for netfilter links."""
    call(Command.LINK_UPDATE, struct.pack("=IIII", fd, program_fd, 0, 0), "update link")


def possible_cpus() -> int:
    """Return the number of possible CPUs: the rows that a per-CPU value has."""
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().rpartition("-")[2].rpartition(",")[2]
    return int(last) + 1


def map_lookup_many(fd: int, count: int, value_size: int) -> bytes:
    """Return the values of keys 0 to ``count`` - 1 of an array, one behind the other."""
    keys, values, token = _Pointer(4 * count), _Pointer(value_size * count), _Pointer(4)
    attr = struct.pack("=QQQQIIQQ", 0, token.address, keys.address, values.address, count, fd, 0, 0)
    with contextlib.suppress(FileNotFoundError):  # said where the last key is reached
        call(Command.MAP_LOOKUP_BATCH, attr, "lookup batch")
    return values.raw


def run_xdp_program(fd: int) -> int:
    """Run an XDP program once over an empty frame; returns the nanoseconds that it took. It must pass."""
    frame, out = _Pointer(bytes(64)), _Pointer(512)
    attr = bytearray(_ATTR_SIZE)
    struct.pack_into("=IIIIQQII", attr, 0, fd, 0, 64, 512, frame.address, out.address, 1, 0)
    buffer = ctypes.create_string_buffer(bytes(attr), _ATTR_SIZE)
    if _libc.syscall(_NR_BPF, int(Command.PROG_TEST_RUN), buffer, _ATTR_SIZE) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"run program: {os.strerror(code)}")
    (result,) = struct.unpack_from("=I", buffer.raw, 4)
    (duration,) = struct.unpack_from("=I", buffer.raw, 36)
    if result != _XDP_PASS:
        raise OSError(0, f"the program returned {result}")
    return int(duration)
