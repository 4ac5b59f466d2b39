# SPDX-License-Identifier: Apache-2.0
"""Where an agent's objects come from: the one seam between the agent and its surroundings.

A source turns whatever it follows (files, watches of an API server) into events of the node's compiler. It
works in its own time; the agent asks when the descriptor is readable. Events state how things are now, so a
source may repeat itself, and the agent may start from nothing at any time by `replay`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wildcard_operator.compiler.events import Event


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """An object, or all of a file, that is not in force as it is written.

    `place` says where it comes from (a file), `kind` is "" where it could not be read that far.
    """

    place: str
    kind: str
    name: str
    reason: str
    message: str

    @property
    def text(self) -> str:
        """The problem as a line for people."""
        subject = f"{self.kind} {self.name}: " if self.kind else ""
        return f"{self.place}: {subject}{self.message}"


class Source(Protocol):
    """What an agent follows. Used from the agent's thread alone."""

    def fileno(self) -> int:
        """A descriptor that is readable when `poll` may have something."""

    def poll(self) -> Sequence[Event]:
        """What changed since the last call; never waits. The first call gives all there is so far."""

    def synced(self) -> bool:
        """Whether all has been seen once. Until then what was in force before the agent started stays so."""

    def problems(self) -> Sequence[Problem]:
        """What is wrong with the objects at present."""

    def close(self) -> None:
        """Stop following."""
