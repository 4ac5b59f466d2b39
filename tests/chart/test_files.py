# SPDX-License-Identifier: Apache-2.0
"""Generated files are up to date, scripts and the Dockerfile have nothing that their linters find."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support.manifests import ROOT
from wildcard_operator.datapath.errors import Shortfall
from wildcard_operator.model.entries import Reason
from wildcard_operator.model.errors import Refusal

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
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=quiet)

    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_files_are_what_would_be_generated() -> None:
    check(sys.executable, "hack/generate.py", "--check")


def test_shellcheck_finds_nothing() -> None:
    scripts = tracked("*.sh", ".ci/run")

    assert len(scripts) > 5
    check(BIN / "shellcheck", *scripts)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    check(BIN / "hadolint", "--failure-threshold", "style", "Dockerfile")


def test_the_documentation_is_a_site_without_a_broken_link(tmp_path: Path) -> None:
    check(BIN / "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site")


def test_every_reason_is_explained_and_no_other() -> None:
    text = (ROOT / "docs/conditions.md").read_text()
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    explained = {title: set(re.findall(r"`([A-Z]\w+)`", cells(body))) for title, body in sections.items()}

    assert explained["Of a node"] == set(Shortfall)
    assert explained["Of a refused object"] == set(Refusal)
    assert explained["Of parts that are not in force as written"] == set(Reason)


def cells(section: str) -> str:
    """The first cells of a section's table."""
    return "\n".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
