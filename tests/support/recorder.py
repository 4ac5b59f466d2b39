# SPDX-License-Identifier: Apache-2.0
"""A sink that keeps what it was given, and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wildcard_operator.kube.api import Json, key_of

if TYPE_CHECKING:
    from wildcard_operator.kube.reflector import Key


class Recorder:
    """What is there, by namespace and name."""

    def __init__(self) -> None:
        self.items: dict[Key, Json] = {}
        self.puts = 0

    def put(self, item: Json) -> None:
        """As `Sink.put`."""
        self.items[key_of(item)] = item
        self.puts += 1

    def remove(self, key: Key) -> None:
        """As `Sink.remove`."""
        del self.items[key]

    def names(self) -> set[str]:
        """The names of what is there."""
        return {name for _, name in self.items}
