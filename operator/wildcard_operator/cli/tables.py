# SPDX-License-Identifier: Apache-2.0
"""Tables for people: as wide as the terminal, and never cut off where they go into a file or a pipe."""

from __future__ import annotations

import sys
from typing import Final

from rich.console import Console
from rich.table import Table

_UNLIMITED: Final = 1000


def console() -> Console:
    """Standard output."""
    return Console(width=None if sys.stdout.isatty() else _UNLIMITED)


def plain_table(*columns: str, title: str | None = None) -> Table:
    """A table without lines."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table
