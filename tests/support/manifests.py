# SPDX-License-Identifier: Apache-2.0
"""The project's own manifests, as tests install them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from support.controlplane import ControlPlane

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "crds"


def crd_documents() -> list[dict[str, Any]]:
    """The CustomResourceDefinitions, one a file."""
    return [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]


def install_crds(plane: ControlPlane) -> None:
    """Apply the definitions and wait until the API server serves them."""
    files = [argument for path in sorted(CRDS.glob("*.yaml")) for argument in ("-f", path)]
    plane.kubectl("apply", *files)
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *files)
