# SPDX-License-Identifier: Apache-2.0
"""The changes of one map that one commit makes."""

import dataclasses
import enum

import numpy as np
import numpy.typing as npt

from . import editor
from .description import Description
from .errors import EntryExists, EntryNotFound, InvalidArgument, MapFull
from .rules import ASSIGNED, Rule, RuleArrays, encode_rule
from .state import EditCommit, MapState, Rebuild

_U32 = 0xFFFFFFFF


class UpdateFlag(enum.IntEnum):
    """What an update demands of the entry; the kernel's BPF_ANY, BPF_NOEXIST, BPF_EXIST."""

    ANY = 0
    NOEXIST = 1
    EXIST = 2


def name_of(description: Description, rule: Rule, priority: int, order: int) -> bytes:
    """The name of an entry as bytes, whose order is the total order."""
    for label, number in (("priority", priority), ("order", order)):
        if not 0 <= number <= _U32:
            raise InvalidArgument(f"{number} does not fit: 0 to {_U32}", label)
    low, high = encode_rule(description, rule)
    return priority.to_bytes(4, "big") + order.to_bytes(4, "big") + low + high


class MapBatch:
    """Changes that wait for the commit. Each call checks its arguments at once; reads see what was staged."""

    def __init__(self, state: MapState) -> None:
        self._state = state
        self._base: RuleArrays | None = None  # what replaces all entries
        self._base_names: frozenset[bytes] | None = None
        self._changes: dict[bytes, tuple[bytes, int] | None] = {}

    def _exists(self, name: bytes) -> bool:
        if name in self._changes:
            return self._changes[name] is not None
        if self._base is None:
            return name in self._state.names()
        if self._base_names is None:
            self._base_names = frozenset(self._base.identities())
        return name in self._base_names

    def update(
        self,
        rule: Rule,
        value: bytes = b"",
        *,
        priority: int = 0,
        order: int = 0,
        rule_id: int | None = None,
        flags: UpdateFlag = UpdateFlag.ANY,
    ) -> None:
        """Add or replace one entry."""
        shape = self._state.shape
        if flags not in list(UpdateFlag):
            raise InvalidArgument(f"{flags!r} is not one of ANY, NOEXIST, EXIST", "flags")
        if len(value) != shape.value_size:
            raise InvalidArgument(
                f"the map's values have {shape.value_size} bytes, not {len(value)}", "value"
            )
        if rule_id is not None and not 0 <= rule_id < shape.max_rule_ids:
            raise InvalidArgument(f"{rule_id} has no counter: 0 to {shape.max_rule_ids - 1}", "rule_id")
        name = name_of(shape.description, rule, priority, order)
        if flags is not UpdateFlag.ANY:
            exists = self._exists(name)
            if flags is UpdateFlag.NOEXIST and exists:
                raise EntryExists(f"the map has {rule} at priority {priority}, order {order}")
            if flags is UpdateFlag.EXIST and not exists:
                raise EntryNotFound(f"the map has no {rule} at priority {priority}, order {order}")
        self._changes[name] = (bytes(value), ASSIGNED if rule_id is None else rule_id)

    def delete(self, rule: Rule, *, priority: int = 0, order: int = 0) -> None:
        """Remove one entry."""
        name = name_of(self._state.shape.description, rule, priority, order)
        if not self._exists(name):
            raise EntryNotFound(f"the map has no {rule} at priority {priority}, order {order}")
        self._changes[name] = None

    def replace(self, arrays: RuleArrays) -> None:
        """Replace all entries; what was staged before is dropped."""
        shape = self._state.shape
        if not arrays.description.same_layout(shape.description):
            raise InvalidArgument(f"the map has the fields {shape.description}, not {arrays.description}")
        if not len(arrays):  # no values tell their size
            arrays = dataclasses.replace(arrays, value=np.zeros((0, shape.value_size), np.uint8))
        if arrays.value.shape[1] != shape.value_size:
            raise InvalidArgument(
                f"the map's values have {shape.value_size} bytes, not {arrays.value.shape[1]}", "value"
            )
        given = arrays.rule_id[arrays.rule_id != ASSIGNED]
        if len(given) and int(given.max()) >= shape.max_rule_ids:
            raise InvalidArgument(
                f"{int(given.max())} has no counter: 0 to {shape.max_rule_ids - 1}", "rule_id"
            )
        _refuse_full(len(arrays), shape.max_entries)
        self._base, self._base_names, self._changes = arrays, None, {}

    def clear(self) -> None:
        """Remove all entries."""
        description = self._state.shape.description
        width = 8 * description.words
        nothing = np.zeros((0, width), np.uint8)
        values = np.zeros((0, self._state.shape.value_size), np.uint8)
        self.replace(RuleArrays.from_intervals(description, nothing, nothing, values=values))

    def stage(self) -> Rebuild | EditCommit | None:
        """Plan the commit; None where nothing changes. Writes nothing that readers see."""
        if self._base is not None:
            return self._stage_replacement(self._base)
        names = self._state.names()
        removed = [name for name in self._changes if name in names]
        added = self._added()
        count = len(names) - len(removed) + len(added)
        _refuse_full(count, self._state.shape.max_entries)
        if not removed and not len(added):
            return None
        gone = np.array([names[name] for name in removed], np.intp)
        added = self._with_ids(added, gone)
        changes = len(removed) + len(added)
        if not editor.too_many(changes, count) and not editor.drifted(self._state.changes + changes, count):
            commit = self._state.edit(removed, added)
            if commit is not None:
                return commit
        return self._state.rebuild(np.setdiff1d(self._state.live(), gone), added)

    def _stage_replacement(self, base: RuleArrays) -> Rebuild:
        if self._changes:
            names = base.identities()
            kept = [index for index, name in enumerate(names) if name not in self._changes]
            base = base.take(np.array(kept, np.intp)).joined(self._added())
        _refuse_full(len(base), self._state.shape.max_entries)
        return self._state.rebuild(None, self._state.assign_ids(base, None))

    def _added(self) -> RuleArrays:
        """The staged entries as arrays."""
        shape = self._state.shape
        staged = [(name, change) for name, change in self._changes.items() if change is not None]
        table = np.frombuffer(b"".join(name for name, _ in staged), np.uint8)
        table = table.reshape(len(staged), 8 + 16 * shape.description.words)
        head = np.ascontiguousarray(table[:, :8]).view(">u4").astype(np.uint32)
        width = 8 * shape.description.words
        values = np.frombuffer(b"".join(value for _, (value, _) in staged), np.uint8)
        return RuleArrays(
            shape.description,
            np.ascontiguousarray(table[:, 8 : 8 + width]),
            np.ascontiguousarray(table[:, 8 + width :]),
            np.ascontiguousarray(head[:, 0]),
            np.ascontiguousarray(head[:, 1]),
            np.array([rule_id for _, (_, rule_id) in staged], np.uint32),
            values.reshape(len(staged), shape.value_size),
        )

    def _with_ids(self, added: RuleArrays, gone: npt.NDArray[np.intp]) -> RuleArrays:
        """Let an entry that is replaced keep its id; the map chooses the others."""
        ids = added.rule_id.copy()
        names = self._state.names()
        for index in np.flatnonzero(ids == ASSIGNED):
            row = names.get(added.take(np.array([index])).identities()[0]) if len(gone) else None
            if row is not None:
                ids[index] = self._state.image.rows["id"][row]
        return self._state.assign_ids(dataclasses.replace(added, rule_id=ids), gone)


def _refuse_full(count: int, capacity: int) -> None:
    if count > capacity:
        raise MapFull(f"the map holds at most {capacity} entries, {count} are wanted")
