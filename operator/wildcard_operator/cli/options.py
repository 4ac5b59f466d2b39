# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click


def users_kubeconfig() -> Path | None:
    """Where kubectl looks; None in a pod, which has a service account instead."""
    path = Path("~/.kube/config").expanduser()
    return path if path.is_file() else None


kubeconfig_option = click.option(
    "--kubeconfig",
    envvar="KUBECONFIG",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=users_kubeconfig,
    show_default="~/.kube/config, or in a pod its service account",
    help="How to reach the API server.",
)
