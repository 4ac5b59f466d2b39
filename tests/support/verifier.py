# SPDX-License-Identifier: Apache-2.0
"""What the kernel's verifier tells of a program: instructions that it looked at, stack of each frame."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_STATISTICS = 4  # BPF_LOG_STATS: the sums at the end, not the paths
_LOG_SIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class Verified:
    """``frames``: bytes of stack, first the program's own, then those of the functions that it calls."""

    instructions: int
    frames: tuple[int, ...]


def verify(path: Path, name: str) -> Verified:
    """Load one program of an object, with maps of its own, and unload it."""
    lib = ctypes.CDLL(ctypes.util.find_library("bpf") or "libbpf.so.1")
    lib.bpf_object__open_file.restype = lib.bpf_object__next_program.restype = ctypes.c_void_p
    lib.bpf_program__name.restype = ctypes.c_char_p
    log = ctypes.create_string_buffer(_LOG_SIZE)
    opened = ctypes.c_void_p(lib.bpf_object__open_file(os.fsencode(path), None))
    try:
        program = ctypes.c_void_p(lib.bpf_object__next_program(opened, None))
        while program:
            wanted = lib.bpf_program__name(program) == name.encode()
            lib.bpf_program__set_autoload(program, ctypes.c_bool(wanted))
            if wanted:
                lib.bpf_program__set_log_level(program, ctypes.c_uint32(_STATISTICS))
                lib.bpf_program__set_log_buf(program, log, ctypes.c_size_t(_LOG_SIZE))
            program = ctypes.c_void_p(lib.bpf_object__next_program(opened, program))
        result = lib.bpf_object__load(opened)
    finally:
        lib.bpf_object__close(opened)
    text = log.value.decode()
    assert result == 0, text
    instructions = re.search(r"^processed (\d+) insns", text, re.MULTILINE)
    frames = re.search(r"^stack depth ([\d+]+)$", text, re.MULTILINE)
    assert instructions is not None, text
    assert frames is not None, text
    return Verified(int(instructions[1]), tuple(map(int, frames[1].split("+"))))
