# SPDX-License-Identifier: Apache-2.0
"""A control plane that serves every kind that the chart makes objects of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.chart import monitoring_crds, render
from support.controlplane import ControlPlane
from support.manifests import CRDS, NAMESPACE, create_definitions, namespace

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    plane = ControlPlane(tmp_path_factory.mktemp("control-plane"))
    plane.start()
    try:
        create_definitions(plane, [*sorted(CRDS.glob("*.yaml")), *monitoring_crds()])
        # Pods are only admitted with their ServiceAccount, even when nothing is stored.
        plane.apply(namespace(NAMESPACE), *(one for one in render() if one["kind"] == "ServiceAccount"))
        yield plane
    finally:
        plane.stop()
