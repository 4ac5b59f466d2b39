# SPDX-License-Identifier: Apache-2.0
"""The project's own manifests, as tests install them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from support.controlplane import KubectlError, tools
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.controlplane import ControlPlane

ROOT = Path(__file__).parents[2]
CRDS = ROOT / "crds"
CHART = ROOT / "charts/wildcard-operator"
NAMESPACE = "wildcard-operator"
REFUSED_FILTERS = yaml.safe_load((ROOT / "tests/cases/refused/wildcardfilters.yaml").read_text())
GOOD_FILTER_RULE = {"name": "only", "action": "Drop"}
GOOD_FILTER_SPEC = {"direction": "Ingress", "target": {"pods": {}}, "rules": [GOOD_FILTER_RULE]}


def crd_documents() -> list[dict[str, Any]]:
    """The CustomResourceDefinitions, one a file."""
    return [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]


def install_crds(plane: ControlPlane) -> None:
    """Apply the definitions and wait until the API server serves them."""
    create_definitions(plane, sorted(CRDS.glob("*.yaml")))


def create_definitions(plane: ControlPlane, paths: Sequence[Path]) -> None:
    """Create these definitions, one a file, and wait until the API server serves them."""
    files = [argument for path in paths for argument in ("-f", path)]
    plane.kubectl("create", *files)
    plane.kubectl("wait", "--for=condition=Established", "--timeout=90s", *files)
    wait_until_served(plane)


def wait_until_served(plane: ControlPlane) -> None:
    """After a start, and after Established too, kinds are refused with 429 until their storage is there."""
    names = plane.kubectl("get", "crds", "-o", "jsonpath={.items[*].metadata.name}").split()
    wait_until(lambda: _are_served(plane, names), 60, f"there are {', '.join(names)}", every=0.2)


def wildcard_filter(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A WildcardFilter."""
    return {
        "apiVersion": "wildcard-operator.io/v1alpha1",
        "kind": "WildcardFilter",
        "metadata": {"name": name},
        "spec": spec,
    }


def refused_filter(case: dict[str, Any]) -> dict[str, Any]:
    """The object of one of REFUSED_FILTERS."""
    spec = {**GOOD_FILTER_SPEC, **case.get("spec", {})}
    if "rule" in case:
        spec["rules"] = [{**GOOD_FILTER_RULE, **case["rule"]}]
    return wildcard_filter(case["name"], {key: value for key, value in spec.items() if value is not None})


def _are_served(plane: ControlPlane, names: Sequence[str]) -> bool:
    try:
        plane.kubectl("get", ",".join(names), "-A")
    except KubectlError:
        return False
    return True


def install_rbac(plane: ControlPlane) -> None:
    """The operator's namespace, and the chart's service accounts with their rights."""
    rendered = subprocess.run(
        [
            tools("helm") / "helm",
            "template",
            "test",
            CHART,
            "--namespace",
            NAMESPACE,
            "--show-only",
            "templates/rbac.yaml",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    plane.apply(namespace(NAMESPACE))
    plane.kubectl("apply", "-f", "-", stdin=rendered.stdout)


def namespace(name: str, **labels: str) -> dict[str, Any]:
    """A Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
