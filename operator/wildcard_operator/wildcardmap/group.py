# SPDX-License-Identifier: Apache-2.0
"""The commit: several maps, two images, one flip.

Readers read the image that the group's one word names. A writer

1. brings the other image of every changed map to the new state,
2. flips the word by an atomic exchange in the kernel,
3. waits until no program can still be reading the old image,
4. brings the old image up to date, so that both are equal again.

Killed before 2, readers keep the old state; after 2, they have the new one. Either way the image that is
not active may be anything: whoever opens the group for writing next copies the active one over it. One
writer at a time: the lock is held on the group's folder for as long as the group is open for writing.
"""

import contextlib
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar, cast

import numpy as np

from . import bpfsys
from .errors import InvalidArgument, MapBusy
from .libbpf import OBJECTS, BpfObject
from .storage import Storage

_ZERO: Final = bytes(4)


class Repairable(Protocol):
    """A map whose image can be made good from the other one."""

    def repair(self, image: int) -> None:
        """Copy the other image over ``image``, whatever that holds."""


class Member(Repairable, Protocol):
    """What a group commits: a map's pending changes, in the steps of the protocol."""

    def write_passive(self, image: int) -> None:
        """Bring ``image``, which nobody reads, to the new state."""

    def write_other(self, image: int) -> None:
        """Bring ``image`` to what the other one has."""


class WildcardGroup:
    """Maps that share one commit. ``WildcardGroup.create()`` or ``.open(folder)``, then maps with ``group=``.

    ``pin``: a folder on bpffs (made, its parent must exist) that keeps the group and its maps beyond the
    process.
    """

    def __init__(self, group_fd: int, grace_fd: int, pin: Path | None, lock: int | None) -> None:
        self.group_fd, self._grace_fd, self.pin, self._lock = group_fd, grace_fd, pin, lock
        self._state = np.frombuffer(mmap.mmap(group_fd, mmap.PAGESIZE), np.uint32, 2)
        self._inner_fd = bpfsys.map_create(
            bpfsys.MapType.ARRAY, key_size=4, value_size=4, max_entries=1, name="wildcard_grace"
        )
        self._object = BpfObject(OBJECTS / "group.bpf.o")
        self._object.reuse_map("group", group_fd)
        self._flip_fd = self._object.load().program_fd("flip")
        self.last_grace_seconds = 0.0

    @classmethod
    def create(cls, pin: Path | str | None = None) -> Self:
        """Make a new group, pinned at ``pin`` where given; EEXIST if something is pinned there."""
        lock = None
        if pin is not None:
            pin = Path(pin)
            pin.mkdir()
            lock = _lock(pin)
        group_fd = bpfsys.map_create(
            bpfsys.MapType.ARRAY,
            key_size=4,
            value_size=8,
            max_entries=1,
            flags=bpfsys.F_MMAPABLE,
            name="wildcard_group",
        )
        inner = bpfsys.map_create(bpfsys.MapType.ARRAY, key_size=4, value_size=4, max_entries=1)
        grace_fd = bpfsys.map_create(
            bpfsys.MapType.ARRAY_OF_MAPS, key_size=4, value_size=4, max_entries=1, inner_map_fd=inner
        )
        os.close(inner)
        if pin is not None:
            bpfsys.pin(group_fd, pin / "group")
            bpfsys.pin(grace_fd, pin / "grace")
        return cls(group_fd, grace_fd, pin, lock)

    @classmethod
    def open(cls, pin: Path | str, *, write: bool = True) -> Self:
        """Open a pinned group; for writing at most one process at a time (``MapBusy``).

        A writer repairs what a killed one left, in all maps that are pinned there: a commit makes the other
        image of every one of them active, whether it was opened or not.
        """
        pin = Path(pin)
        lock = _lock(pin) if write else None
        try:
            group_fd, grace_fd = bpfsys.get_pinned(pin / "group"), bpfsys.get_pinned(pin / "grace")
        except FileNotFoundError as error:
            if lock is not None:
                os.close(lock)
            raise InvalidArgument(f"{pin} holds no wildcard group") from error
        group = cls(group_fd, grace_fd, pin, lock)
        if write:
            try:
                group._repair(pin)
            except OSError:
                group.close()
                raise
        return group

    @property
    def writable(self) -> bool:
        """Whether this process may commit."""
        return self.pin is None or self._lock is not None

    @property
    def active(self) -> int:
        """The image that readers see: 0 or 1."""
        return int(self._state[0])

    def _repair(self, pin: Path) -> None:
        """Make every passive image equal to the active one, once no program reads it any more."""
        self.wait_for_readers()
        for folder in (pin, *sorted(pin.iterdir())):
            if (folder / "about").exists():
                kept, _ = Storage.open(folder)
                kept.images[1 - self.active].copy_from(kept.images[self.active], kept.shape.rows)
                kept.close()

    def wait_for_readers(self) -> None:
        """Return when every program that ran when this was called has ended.

        The kernel promises it for the update of a map in a map: ``maybe_wait_bpf_programs`` in
        kernel/bpf/syscall.c.
        """
        start = time.monotonic()
        bpfsys.map_update(self._grace_fd, _ZERO, struct.pack("=I", self._inner_fd))
        self.last_grace_seconds = time.monotonic() - start

    def commit(self, members: list[Member]) -> None:
        """Make the pending changes of these maps visible, all at once."""
        if not self.writable:
            raise MapBusy("this group was opened for reading")
        old = self.active
        try:
            for member in members:
                member.write_passive(1 - old)
        except BaseException:
            for member in members:
                member.repair(1 - old)
            raise
        bpfsys.run_syscall_program(self._flip_fd, struct.pack("=I", 1 - old))
        self.wait_for_readers()
        for member in members:
            member.write_other(old)

    @contextlib.contextmanager
    def batch(self) -> Iterator["GroupBatch"]:
        """Collect changes of several maps; commit them at the end, or drop them all on an exception."""
        changes = GroupBatch(self)
        yield changes
        changes.commit()

    def close(self) -> None:
        """Give up the lock and the descriptors; what is pinned stays."""
        self._object.close()
        for descriptor in (self.group_fd, self._grace_fd, self._inner_fd):
            os.close(descriptor)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Batch(Protocol):
    """Changes of one map that wait for the commit."""

    def stage(self) -> Member | None:
        """Check and plan the changes; None where there is nothing to do. Writes nothing."""


_Batch = TypeVar("_Batch", bound=Batch)
_Batch_co = TypeVar("_Batch_co", bound=Batch, covariant=True)


class Batchable(Protocol[_Batch_co]):
    """A map of the group."""

    group: WildcardGroup

    def begin(self) -> _Batch_co:
        """Return a new, empty batch."""


class GroupBatch:
    """The changes of one commit over several maps; ``on(map)`` gives the batch of one map."""

    def __init__(self, group: WildcardGroup) -> None:
        self._group = group
        self._batches: dict[int, Batch] = {}

    def on(self, target: Batchable[_Batch]) -> _Batch:
        """Return the batch of ``target``, the same one every time."""
        if target.group is not self._group:
            raise InvalidArgument("the map belongs to another group")
        batch = self._batches.setdefault(id(target), target.begin())
        return cast("_Batch", batch)

    def commit(self) -> None:
        """Plan all maps' changes, so that a refusal changes nothing, then commit them with one flip."""
        staged = [batch.stage() for batch in self._batches.values()]
        members = [member for member in staged if member is not None]
        if members:
            self._group.commit(members)


def _lock(folder: Path) -> int:
    """Take the writer's lock of a group; it ends with the process."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise InvalidArgument(f"{folder} does not exist") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise MapBusy(f"another process is writing to {folder}") from error
    return descriptor
