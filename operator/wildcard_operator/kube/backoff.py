# SPDX-License-Identifier: Apache-2.0
"""How long to wait after a failed request: growing, jittered, and never shorter than the server asks."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays in seconds that double from `first` to `limit`, each multiplied by a random factor of 0.5 to
    1.5.

    The jitter keeps a thousand agents apart that lost the same API server at the same moment.
    """

    first: float = 0.2
    limit: float = 15.0
    source: random.Random = field(default_factory=random.Random)
    _next: float = 0.0

    def reset(self) -> None:
        """Start over: the last request succeeded."""
        self._next = 0.0

    def delay(self, retry_after: float | None = None) -> float:
        """The next delay; at least what the server asked for."""
        self._next = min(self.limit, self._next * 2 or self.first)
        jittered = self._next * self.source.uniform(0.5, 1.5)
        return jittered if retry_after is None else max(jittered, retry_after * self.source.uniform(1.0, 1.2))
