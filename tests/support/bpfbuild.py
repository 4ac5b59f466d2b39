# SPDX-License-Identifier: Apache-2.0
"""Compile a BPF program of the tests or examples, as the Makefile compiles ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'bpf'}"]


def compile_bpf(source: Path, folder: Path, *definitions: str) -> Path:
    """Compile `source` into `folder`; returns the object. Fails with the compiler's words."""
    target = folder / source.with_suffix(".o").name
    compiler = os.environ.get("CLANG", "clang-19")
    command = [compiler, *FLAGS, *definitions, "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target
