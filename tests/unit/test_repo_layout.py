# SPDX-License-Identifier: Apache-2.0
"""What the repository's own rules ask of every file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LICENCES = {
    "kernel": "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause",
    "other": "SPDX-License-Identifier: Apache-2.0",
}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_operator_is_a_source_root_and_no_package() -> None:
    # `operator` is the standard library's: with this file Python dies when it starts in the root.
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize(
    ("licence", "patterns"),
    [("kernel", ["bpf/*.c", "bpf/*.h", "*.bpf.c"]), ("other", ["*.py", "*.sh", "Makefile", "Dockerfile"])],
)
def test_every_source_names_its_licence_at_the_top(licence: str, patterns: list[str]) -> None:
    without = [
        path.relative_to(ROOT)
        for path in tracked(*patterns)
        if not any(LICENCES[licence] in line for line in path.read_text().splitlines()[:3])
    ]

    assert without == []


def test_modules_stay_under_four_hundred_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked("operator/*.py", "bpf/*.h", "bpf/*.c")
        if (lines := len(path.read_text().splitlines())) > 400
    }

    assert long == {}


def test_nothing_compiled_is_tracked() -> None:
    assert tracked("*.o", "*.so", "bpf/vmlinux.h") == []
