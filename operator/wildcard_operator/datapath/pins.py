# SPDX-License-Identifier: Apache-2.0
"""Where everything is pinned, so that enforcement outlives the agent.

    ROOT/wildcard-operator/control                     which program judges; outlives layouts
    ROOT/wildcard-operator/v2/...                      the maps of layout 2
    ROOT/wildcard-operator/v2/slot0-BUILD/HOOK         links of one build of the netfilter programs
    ROOT/wildcard-operator/v2/xdp-BUILD/INDEX-MODE     links of one build of the XDP program

BUILD is a hash of the object file and its settings: a restarted agent knows without loading anything whether
what is attached is what it would attach.
"""

from __future__ import annotations

import errno
import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wildcard_operator.datapath.errors import DatapathError, Shortfall
from wildcard_operator.model.entries import PLACE_BITS
from wildcard_operator.wildcardmap import bpfsys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER: Final = "wildcard-operator"
_SLOT: Final = re.compile(r"slot([01])-([0-9a-f]{16})")
_LAYOUT: Final = re.compile(r"v(\d+)")


def build_of(data: bytes) -> str:
    """A name for a build: 16 hex digits over an object file and what is set in every one."""
    return hashlib.sha256(data + bytes([PLACE_BITS])).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Slot:
    """A folder of pinned links: one build of the netfilter programs, at one of two priorities."""

    path: Path
    number: int
    build: str

    @property
    def bit(self) -> int:
        """The slot's bit in `control.active`."""
        return 1 << self.number


class Pins:
    """The tree below one bpffs folder, for one layout version."""

    def __init__(self, root: Path, layout: int) -> None:
        self.base = root / FOLDER
        self.layout = layout

    @property
    def maps(self) -> Path:
        """The folder of this layout; also its maps'."""
        return self.base / f"v{self.layout}"

    def create(self) -> None:
        """Make the folders. Raises DatapathError where a newer layout is in force."""
        newer = [number for number, _ in self._layouts() if number > self.layout]
        if newer:
            message = (
                f"{self.base} holds layout {max(newer)}, this agent knows {self.layout}: run the newer agent"
            )
            raise DatapathError(Shortfall.OTHER_LAYOUT, message)
        self.maps.mkdir(parents=True, exist_ok=True)

    def _layouts(self) -> Iterator[tuple[int, Path]]:
        if self.base.is_dir():
            for path in self.base.iterdir():
                if found := _LAYOUT.fullmatch(path.name):
                    yield int(found[1]), path

    def slots(self) -> list[Slot]:
        """Slots of all layouts."""
        paths = [path for _, layout in sorted(self._layouts()) for path in sorted(layout.iterdir())]
        matches = ((path, _SLOT.fullmatch(path.name)) for path in paths)
        return [Slot(path, int(match[1]), match[2]) for path, match in matches if match]

    def slot(self, number: int, build: str) -> Slot:
        """A slot of this layout, made if it is not there."""
        path = self.maps / f"slot{number}-{build}"
        path.mkdir(exist_ok=True)
        return Slot(path, number, build)

    def xdp_folders(self) -> list[Path]:
        """Folders of XDP links of all layouts."""
        return [
            path for _, layout in self._layouts() for path in layout.iterdir() if path.name.startswith("xdp-")
        ]

    def drop_older_layouts(self) -> None:
        """Remove what former layouts left; call once nothing of theirs judges any more."""
        for number, path in list(self._layouts()):
            if number < self.layout:
                remove_tree(path)

    def remove(self) -> None:
        """Unpin everything: links detach, maps go."""
        remove_tree(self.base)


def open_pin(path: Path) -> int | None:
    """The descriptor of a pinned object, None where there is none."""
    try:
        return bpfsys.get_pinned(path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def remove_tree(path: Path) -> None:
    """Unlink a folder of pins and all below it; missing ones are fine."""
    if path.is_dir():
        for entry in list(path.iterdir()):
            remove_tree(entry)
        path.rmdir()
    else:
        with suppress(FileNotFoundError):
            path.unlink()
