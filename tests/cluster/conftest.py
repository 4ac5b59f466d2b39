# SPDX-License-Identifier: Apache-2.0
"""One control plane for the whole session; tests that stop it or need its audit log alone start their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.controlplane import ControlPlane
from support.manifests import install_crds, install_rbac
from support.operators import OperatorProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("control-plane"))
    plane.start()
    try:
        yield plane
    finally:
        plane.stop()


@pytest.fixture
def own_control_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path / "control-plane")
    plane.start()
    try:
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def kinds(control_plane: ControlPlane) -> ControlPlane:
    """The session's control plane, with the project's kinds installed."""
    install_crds(control_plane)
    return control_plane


@pytest.fixture(scope="session")
def installed(kinds: ControlPlane) -> ControlPlane:
    """The session's control plane, with the operator's namespace and rights too."""
    install_rbac(kinds)
    return kinds


@pytest.fixture(scope="module")
def operator(installed: ControlPlane) -> Iterator[OperatorProcess]:
    """An operator of the session's control plane, with nothing left to write."""
    with OperatorProcess(installed) as process:
        process.wait_until_settled()
        yield process
