# SPDX-License-Identifier: Apache-2.0
"""Generated files are up to date, scripts and the Dockerfile have nothing that their linters find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.manifests import ROOT

BIN = Path(sys.executable).parent


def tracked(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return listed.stdout.split()


def check(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_files_are_what_would_be_generated() -> None:
    check(sys.executable, "hack/generate.py", "--check")


def test_shellcheck_finds_nothing() -> None:
    scripts = tracked("*.sh", ".ci/run")

    assert len(scripts) > 5
    check(BIN / "shellcheck", *scripts)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    check(BIN / "hadolint", "--failure-threshold", "style", "Dockerfile")
