# SPDX-License-Identifier: Apache-2.0
"""Whom the agent tells what became of the objects: the seam opposite to `Source`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wildcard_operator.datapath.errors import NodeCondition
    from wildcard_operator.model.entries import Condition, NodeDelta, NodeTables


class Outlet(Protocol):
    """Told from the agent's thread, after the fact; it must not wait or raise."""

    def restarted(self, tables: NodeTables) -> None:
        """All that was polled is in force, as these tables."""

    def committed(self, delta: NodeDelta) -> None:
        """All that was polled is in force, by this change."""

    def secured(
        self, conditions: Sequence[NodeCondition], remarks: Sequence[Condition], xdp_modes: Mapping[str, str]
    ) -> None:
        """What the node can't do now, what is odd about objects, and the XDP mode of each interface."""


class Silent:
    """An outlet for agents that nobody asks."""

    def restarted(self, tables: NodeTables) -> None:
        """Nobody is told."""

    def committed(self, delta: NodeDelta) -> None:
        """Nobody is told."""

    def secured(
        self, conditions: Sequence[NodeCondition], remarks: Sequence[Condition], xdp_modes: Mapping[str, str]
    ) -> None:
        """Nobody is told."""
