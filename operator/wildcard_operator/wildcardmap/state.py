# SPDX-License-Identifier: Apache-2.0
"""What a writer knows of a map beside its images, and the two ways to commit: build anew, or edit."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from . import builder, plan, storage
from .builder import Algorithm, Built
from .editor import Edit, Editor, NewRow
from .errors import MapFull
from .group import WildcardGroup
from .roster import Roster
from .rules import ASSIGNED, RuleArrays
from .storage import Image, Shape, Storage

_COUNT_ONE_BY_ONE = 16


class MapState:
    """A map's storage with its entries' names, free rows and places; a member of its group's commits."""

    def __init__(
        self, kept: Storage, group: WildcardGroup, algorithm: Algorithm, pool: plan.Lengths | None
    ) -> None:
        self.storage, self.group, self.algorithm, self.pool = kept, group, algorithm, pool
        self.changes = 0
        self.editor = Editor(kept.shape, self.image)
        self._roster: Roster | None = None
        self._planned = False

    @property
    def shape(self) -> Shape:
        """The sizes."""
        return self.storage.shape

    @property
    def image(self) -> Image:
        """The active image."""
        return self.storage.images[self.group.active]

    def live(self) -> npt.NDArray[np.intp]:
        """Rows in use."""
        return np.flatnonzero(self.image.rows["table"])

    def count(self) -> int:
        """Entries."""
        return len(self.live()) if self._roster is None else len(self._roster.row_of)

    def roster(self) -> Roster:
        """The entries; kept up to date by edits, dropped by builds."""
        if self._roster is None:
            self._roster = Roster(self.shape, self.image)
        return self._roster

    def names(self) -> Mapping[bytes, int]:
        """Name of an entry -> its row."""
        return self.roster().row_of

    def find(self, name: bytes) -> int | None:
        """Return the row of an entry."""
        return self.names().get(name)

    def assign_ids(self, arrays: RuleArrays, gone: npt.NDArray[np.intp] | None) -> RuleArrays:
        """Choose the lowest free ids where wanted, counters at zero.

        Ids of entries are not free, unless their rows are ``gone`` (None: all are).
        """
        wanted = np.flatnonzero(arrays.rule_id == ASSIGNED)
        if not len(wanted):
            return arrays
        used = np.zeros(self.shape.max_rule_ids, np.bool_)
        used[arrays.rule_id[arrays.rule_id != ASSIGNED]] = True
        if gone is not None:
            uses = self.roster().id_uses.copy()
            np.subtract.at(uses, self.image.rows["id"][gone], 1)
            used |= uses > 0
        free = np.flatnonzero(~used)[: len(wanted)]
        if len(free) < len(wanted):
            raise MapFull(f"{len(wanted)} rule ids are wanted, {len(free)} are free", "rule_id")
        self._zero_counters(free)
        ids = arrays.rule_id.copy()
        ids[wanted] = free
        return dataclasses.replace(arrays, rule_id=ids)

    def _zero_counters(self, rule_ids: npt.NDArray[np.intp]) -> None:
        descriptor = self.storage.descriptors["counters"]
        if len(rule_ids) > _COUNT_ONE_BY_ONE:
            counted = np.flatnonzero(storage.counters(descriptor, self.shape.max_rule_ids).any(axis=1))
            rule_ids = np.intersect1d(rule_ids, counted)
        storage.zero_counters(descriptor, rule_ids.tolist())

    def rebuild(self, kept: npt.NDArray[np.intp] | None, added: RuleArrays) -> "Rebuild":
        """Plan a commit that builds anew from the entries in rows ``kept`` (None: none) and ``added``."""
        if kept is not None and len(kept):
            added = builder.decode_rows(self.shape, self.image.rows[kept]).joined(added)
        return Rebuild(self, builder.build(self.shape, added, self.algorithm, self.pool))

    def forget(self) -> None:
        """Drop what is derived from the images, after a build; it is made again when it is needed."""
        self._roster, self._planned, self.changes = None, False, 0
        self.editor = Editor(self.shape, self.image)

    def edit(self, removed: list[bytes], added: RuleArrays) -> "EditCommit | None":
        """Plan a commit of a few changes; None where only a new build can take them."""
        if self.image.head["direct"][0]:
            return None  # it has no chains, and grows out of it by a build
        if self._planned:
            self._roster = None  # a plan that was not carried out has changed the order
        self._planned = True
        roster = self.roster()
        freed = [roster.row_of[name] for name in removed]
        for name in removed:
            roster.remove(name)
        rows = (freed + list(roster.free[: -1 - len(added) : -1]))[: len(added)]
        names = added.identities()
        records = builder.encode_rows(self.shape, added)
        new = []
        for index, (name, row) in enumerate(zip(names, rows, strict=True)):
            low, high = added.low[index], added.high[index]
            table = self.editor.table_for(low, high)
            place = None if table is None else roster.add(name)
            if table is None or place is None:
                return None
            records["table"][index], records["place"][index] = table + 1, place
            new.append(NewRow(row, records[index], low, high))
        width = 8 * self.shape.description.words
        lows = [np.frombuffer(name[8 : 8 + width], np.uint8) for name in removed]
        edit = Edit(list(zip(freed, lows, strict=True)), new)
        ids = self.image.rows["id"][freed].tolist()
        return EditCommit(self, edit, removed, names, ids)

    def edited(self, commit: "EditCommit") -> None:
        """Take over what an edit changed."""
        roster, added = self.roster(), commit.edit.added
        freed = [roster.row_of.pop(name) for name in commit.removed]
        roster.row_of.update((name, new.row) for name, new in zip(commit.added, added, strict=True))
        del roster.free[len(roster.free) - max(0, len(added) - len(freed)) :]
        roster.free.extend(freed[len(added) :])
        np.subtract.at(roster.id_uses, commit.removed_ids, 1)
        np.add.at(roster.id_uses, [int(new.record["id"]) for new in added], 1)
        self.changes += len(freed) + len(added)
        self._planned = False

    def repair(self, image: int) -> None:
        """Copy the other image over ``image``."""
        source = self.storage.images[1 - image]
        self.storage.images[image].copy_from(source, self.shape.rows)


@dataclasses.dataclass(frozen=True, slots=True)
class Rebuild:
    """A planned commit that writes a whole image."""

    state: MapState
    built: Built

    def write_passive(self, image: int) -> None:
        """Write the new image."""
        builder.write(self.state.storage.images[image], self.built)

    def write_other(self, image: int) -> None:
        """Copy it."""
        images = self.state.storage.images
        images[image].copy_from(images[1 - image], len(self.built.rows))
        self.state.forget()

    def repair(self, image: int) -> None:
        """Undo ``write_passive``."""
        self.state.repair(image)


@dataclasses.dataclass(frozen=True, slots=True)
class EditCommit:
    """A planned commit that changes a few rows; ``removed`` and ``added`` name the entries."""

    state: MapState
    edit: Edit
    removed: list[bytes]
    added: list[bytes]
    removed_ids: list[int]

    def write_passive(self, image: int) -> None:
        """Edit the image."""
        self.state.editor.apply(self.state.storage.images[image], self.edit)

    def write_other(self, image: int) -> None:
        """Copy what the edit touched."""
        images = self.state.storage.images
        self.state.editor.copy(images[image], images[1 - image])
        self.state.edited(self)

    def repair(self, image: int) -> None:
        """Undo ``write_passive``."""
        self.state.repair(image)
