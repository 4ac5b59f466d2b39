# SPDX-License-Identifier: Apache-2.0
"""Measure the kernel's own maps on a rule set: a hash of the whole key, an LPM trie of one address."""

from __future__ import annotations

import mmap
import os
import statistics
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wildcard_operator.wildcardmap import bpfsys
from wildcard_operator.wildcardmap.bpfsys import MapType
from wildcard_operator.wildcardmap.btf import symbol_offset
from wildcard_operator.wildcardmap.libbpf import BpfObject

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    import sets

OBJECT = Path(__file__).resolve().parent.parent / "build" / "bench" / "baselines.bpf.o"
PACKETS, PACKET_SIZE = 4096, 64
ROUNDS, REPEATS = 64, 7


@dataclass(frozen=True, slots=True)
class KernelMaps:
    """Nanoseconds per lookup, less the empty loop."""

    lpm: float
    hash: float


def measure(rules: sets.Boxes, packets: npt.NDArray[np.uint8]) -> KernelMaps:
    """Look uint8[PACKETS, key size] up, again and again, in both maps.

    The trie holds the source prefixes of the rules. The hash holds the packets, so that it always hits, and
    the least packet of every rule.
    """
    index = 2 if rules.description.startswith("match") else 0
    _, size, offset = rules.fields[index]
    prefixes = {
        struct.pack("=I", length) + address.tobytes()
        for length, address in zip(rules.lengths[:, index], rules.low[:, offset : offset + size], strict=True)
    }
    keys = {row.tobytes() for rows in (packets, rules.low) for row in rows}
    with BpfObject(OBJECT) as program:
        for name, number in (("address_offset", offset), ("address_bits", 8 * size)):
            program.set_constants(".rodata", struct.pack("=I", number), symbol_offset(OBJECT, name))
        _put(program, "lpm", MapType.LPM_TRIE, prefixes)
        _put(program, "hash", MapType.HASH, keys)
        program.load()
        with mmap.mmap(program.map_fd("packets"), PACKETS * PACKET_SIZE) as memory:
            memory.write(np.pad(packets, ((0, 0), (0, PACKET_SIZE - packets.shape[1]))).tobytes())
        empty = _nanoseconds(program, "measure_nothing")
        return KernelMaps(
            lpm=_nanoseconds(program, "measure_lpm") - empty,
            hash=_nanoseconds(program, "measure_hash") - empty,
        )


def _put(program: BpfObject, name: str, kind: MapType, keys: Iterable[bytes]) -> None:
    """Make a map that holds `keys` and let the program use it."""
    keys = list(keys)
    flags = bpfsys.F_NO_PREALLOC if kind is MapType.LPM_TRIE else 0
    fd = bpfsys.map_create(
        kind, key_size=len(keys[0]), value_size=4, max_entries=len(keys), flags=flags, name=name
    )
    for key in keys:
        bpfsys.map_update(fd, key, bytes(4))
    program.reuse_map(name, fd)
    os.close(fd)


def _nanoseconds(program: BpfObject, name: str) -> float:
    """The median of several runs."""
    times: list[float] = []
    for _ in range(REPEATS):
        bpfsys.run_syscall_program(program.program_fd(name), struct.pack("=Q", ROUNDS))
        measured = bpfsys.map_lookup(program.map_fd(".bss"), bytes(4), 16) or bytes(16)
        times.append(struct.unpack("=QQ", measured)[0] / (ROUNDS * PACKETS))
    return statistics.median(times)
