# SPDX-License-Identifier: Apache-2.0
"""What an operator process is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wildcard_operator.model.addresssets import DEFAULT_VOLATILE_LABELS

if TYPE_CHECKING:
    from pathlib import Path

# 10,000 pods and policies are up to 20,000 objects, which are to be there within 30 seconds. A server that is
# slower sets the pace, as few writes are under way at once.
PUBLISH_QPS = 1000.0


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
    publish_qps: float = PUBLISH_QPS
    metrics_port: int = 8080
    health_port: int = 8081
    volatile_labels: frozenset[str] = DEFAULT_VOLATILE_LABELS
