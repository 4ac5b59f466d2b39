# SPDX-License-Identifier: Apache-2.0
"""What an operator process is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wildcard_operator.model.addresssets import DEFAULT_VOLATILE_LABELS

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the operator; the command line documents them.

    Attributes:
        namespace: Where RuleSets, AddressSets, the Lease and the agents' pods live.
        identity: Unique to this process.
        volatile_labels: Labels that are no part of a pod's identity.
    """

    namespace: str
    identity: str
    kubeconfig: Path | None = None
    publish_qps: float = 500.0
    metrics_port: int = 8080
    health_port: int = 8081
    volatile_labels: frozenset[str] = DEFAULT_VOLATILE_LABELS
