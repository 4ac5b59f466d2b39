# SPDX-License-Identifier: Apache-2.0
"""The Helm chart: rendered, and what it is rendered for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from support.controlplane import HERE, tools
from support.manifests import CHART, NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Document = dict[str, Any]
MONITORING = "github.com/prometheus-operator/prometheus-operator"


class HelmError(Exception):
    """Helm refused; the message is what it printed."""


def helm(*arguments: str | Path, stdin: str | None = None) -> str:
    """What Helm prints. Raises HelmError."""
    command = [tools("helm") / "helm", *arguments]
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120)
    if result.returncode != 0:
        raise HelmError(result.stderr.strip())
    return result.stdout


def render(values: Mapping[str, Any] | None = None, *options: str) -> list[Document]:
    """The chart's objects for these values, with its hooks. Raises HelmError."""
    rendered = helm(
        *("template", "wildcard", CHART, "--namespace", NAMESPACE, "--values", "-", *options),
        stdin=json.dumps(values or {}),
    )
    return [document for document in yaml.safe_load_all(rendered) if document is not None]


def find(documents: Iterable[Document], kind: str, name: str) -> Document:
    """The only object of this kind and name."""
    (found,) = (one for one in documents if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def monitoring_crds() -> list[Path]:
    """The real definitions of the kinds that prometheus-operator serves, from its pinned module."""
    result = subprocess.run(
        ["go", "mod", "download", "-json", MONITORING],
        cwd=HERE / "kubetools/monitoring",
        check=True,
        capture_output=True,
        text=True,
    )
    folder = Path(json.loads(result.stdout)["Dir"], "example/prometheus-operator-crd")
    kinds = ("servicemonitors", "podmonitors", "prometheusrules")
    return [folder / f"monitoring.coreos.com_{kind}.yaml" for kind in kinds]
