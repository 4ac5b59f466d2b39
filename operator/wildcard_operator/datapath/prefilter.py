# SPDX-License-Identifier: Apache-2.0
"""The XDP program, on the interfaces that filters of the node speak of and on no other."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from wildcard_operator.datapath import links
from wildcard_operator.datapath.abi import PREFILTER_OBJECT
from wildcard_operator.datapath.errors import DatapathError, NodeCondition, Shortfall
from wildcard_operator.datapath.links import XdpMode
from wildcard_operator.datapath.pins import build_of, open_pin, remove_tree
from wildcard_operator.datapath.programs import set_constant
from wildcard_operator.model.entries import PLACE_BITS
from wildcard_operator.wildcardmap import bpfsys
from wildcard_operator.wildcardmap.libbpf import BpfObject

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from wildcard_operator.datapath.host import Link
    from wildcard_operator.datapath.pins import Pins

PROGRAM: Final = "prefilter"


class Prefilter:
    """This build's XDP program on a node. `modes` says how it runs, by interface index.

    `bind` makes an object use the node's maps.
    """

    def __init__(self, pins: Pins, bind: Callable[[BpfObject], None], path: Path = PREFILTER_OBJECT) -> None:
        self._pins = pins
        self._bind = bind
        self._path = path
        self._folder = pins.maps / f"xdp-{build_of(path.read_bytes())}"
        self._loaded: BpfObject | None = None
        self.modes: dict[int, XdpMode] = {}

    def ensure(self, interfaces: Collection[Link]) -> tuple[NodeCondition, ...]:
        """Make the program run on these interfaces and no other; returns what could not be."""
        wanted = {link.index: link for link in interfaces}
        if wanted:
            self._folder.mkdir(exist_ok=True)
        self._take_over()
        self.modes = self._keep(wanted)
        conditions = []
        for index, link in wanted.items():
            if index in self.modes:
                continue
            try:
                self._attach(link)
            except DatapathError as error:
                conditions.append(error.condition)
            except OSError as error:
                conditions.append(NodeCondition(Shortfall.LOAD_FAILED, link.name, str(error)))
        return tuple(conditions)

    def close(self) -> None:
        """Close descriptors; attached programs stay."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def _take_over(self) -> None:
        """Give links of other builds our program, in one step each."""
        for folder in self._pins.xdp_folders():
            if folder == self._folder:
                continue
            for path in folder.iterdir():
                self._folder.mkdir(exist_ok=True)
                fd = bpfsys.get_pinned(path)
                try:
                    with suppress(OSError):  # ENOLINK: the interface is gone
                        bpfsys.link_update(fd, self._program())
                        bpfsys.pin(fd, self._folder / path.name)
                finally:
                    os.close(fd)
            remove_tree(folder)

    def _keep(self, wanted: Mapping[int, Link]) -> dict[int, XdpMode]:
        """Which links stay; the others are detached."""
        modes = {}
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            index, mode = path.name.split("-")
            fd = open_pin(path)
            if fd is None:
                continue
            attached = links.interface_of_link(fd)
            os.close(fd)
            if attached == int(index) and attached in wanted:
                modes[attached] = XdpMode[mode.upper()]
            else:
                path.unlink()
        return modes

    def _attach(self, link: Link) -> None:
        fd, mode = links.attach_xdp(self._program(), link)
        try:
            bpfsys.pin(fd, self._folder / f"{link.index}-{mode.name.lower()}")
        finally:
            os.close(fd)
        self.modes[link.index] = mode

    def _program(self) -> int:
        if self._loaded is None:
            loaded = BpfObject(self._path)
            set_constant(loaded, "place_bits", PLACE_BITS)
            self._bind(loaded)
            self._loaded = loaded.load()
        return self._loaded.program_fd(PROGRAM)
