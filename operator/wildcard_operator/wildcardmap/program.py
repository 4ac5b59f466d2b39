# SPDX-License-Identifier: Apache-2.0
"""Lookups through the kernel: the program of bpf/classify.bpf.c over the maps of one wildcard map."""

import enum
import mmap
import struct
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from . import bpfsys
from .btf import symbol_offset
from .description import MAX_FIELDS, Description
from .libbpf import OBJECTS, BpfObject
from .storage import Storage

_MATCH = "classify_match"
_RUN = struct.Struct("=QIIIIQ")
ANSWER_TYPE = np.dtype([("place", "u8"), ("row", "u4"), ("id", "u4")])


class Benchmark(enum.StrEnum):
    """The loops that classify.bpf.c can time."""

    INDEPENDENT = "bench_independent"
    DEPENDENT = "bench_dependent"
    REPEATED = "bench_repeated"
    EMPTY = "bench_empty"


class Matcher:
    """A loaded classify.bpf.o with room for ``capacity`` packets (a power of two).

    ``loops``: only these are loaded, to ``time``; else what ``match`` needs. The kernel verifies each anew.
    """

    def __init__(
        self, storage: Storage, group_fd: int, capacity: int = 4096, loops: Collection[Benchmark] = ()
    ) -> None:
        self._words = storage.shape.description.words
        path = OBJECTS / "classify.bpf.o"
        self._object = BpfObject(path)
        self._object.reuse_map("group", group_fd)
        for part, descriptor in storage.descriptors.items():
            if part != "counters":
                self._object.reuse_map(f"map_{part}", descriptor)
        self._fds = [
            bpfsys.map_create(
                bpfsys.MapType.ARRAY,
                key_size=4,
                value_size=size,
                max_entries=capacity,
                flags=bpfsys.F_MMAPABLE,
                name=name,
            )
            for name, size in (("packets", 8 * self._words), ("answers", ANSWER_TYPE.itemsize))
        ]
        for name, descriptor in zip(("packets", "answers"), self._fds, strict=True):
            self._object.reuse_map(name, descriptor)
        constants = kernel_description(storage.shape.description)
        self._object.set_constants("classify.rodata", constants, symbol_offset(path, "description"))
        self._object.load_only([_MATCH, *Benchmark], loops or [_MATCH])
        self._object.load()
        self.capacity = capacity
        self.packets = self._map(self._fds[0], 8 * self._words * capacity, np.dtype(np.uint8)).reshape(
            capacity, -1
        )
        self._answers = self._map(self._fds[1], ANSWER_TYPE.itemsize * capacity, ANSWER_TYPE)
        self._run_fd = self._object.map_fd("run")

    @staticmethod
    def _map(
        descriptor: int, size: int, kind: np.dtype[np.void] | np.dtype[np.uint8]
    ) -> npt.NDArray[np.void]:
        length = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        return np.frombuffer(mmap.mmap(descriptor, length), kind, size // kind.itemsize)

    def match(self, packets: npt.NDArray[np.uint8], floor: int) -> npt.NDArray[np.void]:
        """Look up packets (uint8[n, 8 * words]); returns answers: ``row`` 0 where nothing matches."""
        answers = np.zeros(len(packets), ANSWER_TYPE)
        for start in range(0, len(packets), self.capacity):
            part = packets[start : start + self.capacity]
            self.packets[: len(part)] = part
            self._run(_MATCH, floor=floor, first=0, count=len(part))
            answers[start : start + len(part)] = self._answers[: len(part)]
        return answers

    def time(self, loop: Benchmark, count: int, *, packets: int, first: int = 0, floor: int = 0) -> float:
        """Run ``count`` lookups over the first ``packets`` (a power of two); returns the kernel's seconds."""
        return self._run(loop.value, floor=floor, first=first, count=count, mask=packets - 1) * 1e-9

    def _run(self, program: str, *, floor: int, first: int, count: int, mask: int = 0) -> int:
        bpfsys.map_update(self._run_fd, bytes(4), _RUN.pack(floor, first, count, mask, 0, 0))
        return bpfsys.run_xdp_program(self._object.program_fd(program))

    def close(self) -> None:
        """Unload."""
        self._object.close()


def kernel_description(description: Description) -> bytes:
    """The description as struct wildcard_desc."""
    fields = [
        struct.pack("=BBBB", field.kind.number, offset & ~7, offset % 8 * 8, max(0, 64 - field.bits))
        for field, offset in zip(description.fields, description.offsets, strict=True)
    ]
    return struct.pack("=I", description.words) + b"".join(fields).ljust(4 * MAX_FIELDS, b"\0")
