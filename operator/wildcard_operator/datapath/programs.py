# SPDX-License-Identifier: Apache-2.0
"""The netfilter programs: attached once, kept over restarts, replaced without a packet unjudged.

A netfilter link can't be given another program. So a new build is attached at the neighbouring priority
while `control` names the old one, then both, then the new one alone; the old one goes last. With both named
a packet in between is judged at least once, whichever of the two comes first.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import numpy as np

from wildcard_operator.datapath import links
from wildcard_operator.datapath.abi import POLICY_OBJECT, abi
from wildcard_operator.datapath.pins import Slot, build_of, open_pin, remove_tree
from wildcard_operator.datapath.requirements import check_kernel
from wildcard_operator.model.entries import PLACE_BITS
from wildcard_operator.wildcardmap import bpfsys
from wildcard_operator.wildcardmap.btf import symbol_offset
from wildcard_operator.wildcardmap.libbpf import BpfObject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wildcard_operator.datapath.pins import Pins

PRIORITY: Final = 95
"""Before source NAT (100), behind everything that routes and tracks. The second slot is one later."""

_KEY: Final = bytes(4)


class Control:
    """The pinned word that says which slots judge, and how."""

    def __init__(self, pins: Pins) -> None:
        path = pins.base / "control"
        fd = open_pin(path)
        if fd is None:
            size = abi().control.itemsize
            fd = bpfsys.map_create(
                bpfsys.MapType.ARRAY, key_size=4, value_size=size, max_entries=1, name="control"
            )
            bpfsys.pin(fd, path)
        self.fd = fd

    def read(self) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """The record, one element."""
        data = bpfsys.map_lookup(self.fd, _KEY, abi().control.itemsize) or bytes(abi().control.itemsize)
        return np.frombuffer(data, abi().control).copy()

    def set(self, member: str, value: int) -> None:
        """Change one member."""
        record = self.read()
        if int(record[member][0]) != value:
            record[member] = value
            bpfsys.map_update(self.fd, _KEY, record.tobytes())

    @property
    def active(self) -> int:
        """The set of slots that judge."""
        return int(self.read()["active"][0])

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


class Programs:
    """This build's netfilter programs on a node.

    `bind` makes an object use the node's maps. `wait` returns when every program that runs now has ended.
    """

    def __init__(
        self,
        pins: Pins,
        control: Control,
        bind: Callable[[BpfObject], None],
        wait: Callable[[], None],
        path: Path = POLICY_OBJECT,
    ) -> None:
        self._wait = wait
        self._pins = pins
        self._control = control
        self._bind = bind
        self._path = path
        self.build = build_of(path.read_bytes())

    def ensure(self) -> None:
        """Make this build attached at every hook, and the only one that judges.

        Raises DatapathError and LoadError.
        """
        check_kernel()
        slots = self._pins.slots()
        mine = next((s for s in slots if s.build == self.build and s.path.parent == self._pins.maps), None)
        others = [slot for slot in slots if slot != mine]
        if mine is None:
            others = self._free_one_slot(others)
            mine = self._pins.slot(1 - others[0].number if others else 0, self.build)
        missing = [hook for hook in links.HOOKS if not (mine.path / hook.name).exists()]
        if missing:
            self._attach(mine, missing)
        if others:
            self._name(mine.bit | self._control.active)
        self._name(mine.bit)
        for slot in others:
            remove_tree(slot.path)
        self._pins.drop_older_layouts()

    def _free_one_slot(self, others: list[Slot]) -> list[Slot]:
        """Two other builds are there when a handover was cut short: the one that does not judge goes."""
        if len({slot.number for slot in others}) < 2:
            return others
        active = self._control.active
        idle = next((slot for slot in others if not slot.bit & active), others[0])
        remaining = [slot for slot in others if slot != idle]
        self._name(remaining[0].bit)
        remove_tree(idle.path)
        return remaining

    def _name(self, slots: int) -> None:
        """Say who judges, and wait until nobody goes by what was said before."""
        if self._control.active != slots:
            self._control.set("active", slots)
            self._wait()

    def _attach(self, slot: Slot, hooks: list[links.Hook]) -> None:
        with ExitStack() as stack:
            loaded = stack.enter_context(self._load(slot))
            for hook in hooks:
                fd = links.attach_netfilter(loaded.program_fd(hook.program), hook, PRIORITY + slot.number)
                stack.callback(os.close, fd)
                bpfsys.pin(fd, slot.path / hook.name)

    def _load(self, slot: Slot) -> BpfObject:
        loaded = BpfObject(self._path)
        for program in {hook.program for hook in links.HOOKS}:
            loaded.set_program_type(program, links.NETFILTER_PROGRAM, links.NETFILTER_ATTACH)
        set_constant(loaded, "own_slot", slot.bit)
        set_constant(loaded, "place_bits", PLACE_BITS)
        self._bind(loaded)
        loaded.reuse_map("control", self._control.fd)
        return loaded.load()


def set_constant(loaded: BpfObject, name: str, value: int) -> None:
    """Set a 32-bit constant of an object that is not loaded yet."""
    loaded.set_constants(".rodata", np.uint32(value).tobytes(), symbol_offset(loaded.path, name))
