# SPDX-License-Identifier: Apache-2.0
"""Tests that load programs into the running kernel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from support.bpffs import mounted_bpffs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True, scope="session")
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")


@pytest.fixture
def bpffs() -> Iterator[Path]:
    """A bpffs that is gone with the test."""
    with mounted_bpffs() as folder:
        yield folder
