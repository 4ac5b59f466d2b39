# SPDX-License-Identifier: Apache-2.0
"""``WildcardMap``: the classifier as a Python class.

An entry is named by its rule, its priority and its order. The total order of a map's entries is by priority
(lowest first), then order, then the rule's bytes; a lookup returns the first entry in it that matches, at
or behind a floor. Every change is one atomic commit, also over several maps (``group.batch()``); a refused
change changes nothing.
"""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from . import storage
from .batch import MapBatch, UpdateFlag, name_of
from .btf import Btf
from .builder import Algorithm, decode_rows
from .description import Description
from .errors import InvalidArgument
from .group import WildcardGroup
from .libbpf import BpfObject
from .pool import Pool
from .program import Benchmark, Matcher
from .rules import Bytes, Element, FieldRule, Rule, RuleArrays, decode_rule, encode_element, padded
from .state import MapState
from .stats import Stats, measure
from .storage import Shape, Storage


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """An entry; fields' values are numbers. ``place`` is its position in the order until the next commit."""

    rule: tuple[FieldRule, ...]
    priority: int
    order: int
    rule_id: int
    value: bytes
    place: int


class WildcardMap:
    """A wildcard map. Make one with ``create``, ``open`` or ``from_object``; not by the constructor."""

    def __init__(self, state: MapState, group: WildcardGroup, *, owns_group: bool) -> None:
        self._state, self.group, self._owns_group = state, group, owns_group
        self._matcher: Matcher | None = None
        self._timer: Matcher | None = None

    @classmethod
    def create(
        cls,
        description: Description,
        *,
        max_entries: int,
        value_size: int = 0,
        algorithm: Algorithm | str = Algorithm.AUTO,
        pool: Pool | None = None,
        max_rule_ids: int | None = None,
        pin: Path | str | None = None,
        group: WildcardGroup | None = None,
        name: str = "map",
    ) -> Self:
        """Make an empty map of at most ``max_entries``; memory is taken now.

        ``pin``: a folder on bpffs for a map of its own. In a pinned ``group`` the map is pinned in the
        group's folder under ``name``. ``max_rule_ids``: ids from 0 up to this have counters (default: as
        many as entries).
        """
        chosen = _algorithm(algorithm)
        if (chosen is Algorithm.STATIC_TUPLE_MERGE) != (pool is not None):
            raise InvalidArgument("a pool goes with tm-static, and only with it", "pool")
        tables = pool.tables(description) if pool is not None else None
        shape = Shape(
            description, value_size, max_entries, max_entries if max_rule_ids is None else max_rule_ids
        )
        if pin is not None and group is not None:
            raise InvalidArgument(
                "a map of a group is pinned by its group: give the pin to WildcardGroup", "pin"
            )
        own = group is None
        if group is None:
            group = WildcardGroup.create(pin)
        kept = Storage.create(shape, name)
        if group.pin is not None:
            extra = {"algorithm": chosen.value, "pool": tables.tolist() if tables is not None else None}
            kept.pin(group.pin if own else group.pin / name, extra)
        return cls(MapState(kept, group, chosen, tables), group, owns_group=own)

    @classmethod
    def open(
        cls,
        pin: Path | str,
        *,
        group: WildcardGroup | None = None,
        expect: Description | None = None,
        write: bool = True,
    ) -> Self:
        """Open a pinned map: its own folder, or a folder in the folder of a ``group`` that is open.

        ``expect``: refuse a map whose fields have other kinds or sizes. ``write``: take the writer's lock,
        and repair what a killed writer left.
        """
        kept, extra = Storage.open(Path(pin))
        description = kept.shape.description
        if expect is not None and not expect.same_layout(description):
            kept.close()
            raise InvalidArgument(f"{pin} has the fields {description}, not {expect}")
        own = group is None
        if group is None:
            try:
                group = WildcardGroup.open(pin, write=write)
            except OSError:
                kept.close()
                raise
        tables = np.array(extra["pool"], np.uint8) if extra["pool"] else None
        state = MapState(kept, group, Algorithm(extra["algorithm"]), tables)
        return cls(state, group, owns_group=own)

    @classmethod
    def of_object(
        cls,
        path: Path,
        name: str,
        *,
        max_entries: int,
        algorithm: Algorithm | str = Algorithm.AUTO,
        pin: Path | str | None = None,
        group: WildcardGroup | None = None,
    ) -> Self:
        """Make the map that an object declares as ``WILDCARD_MAP(name, ...)``; its BTF tells the fields.

        ``bind`` it to the object before that is loaded.
        """
        btf = Btf.of_object(path)
        description, value_size = _declared(btf, name)
        created = cls.create(
            description,
            max_entries=max_entries,
            value_size=value_size,
            algorithm=algorithm,
            pin=pin,
            group=group,
            name=name,
        )
        row = created.shape.row_type.itemsize
        if row != btf.size(f"{name}_row"):
            created.close()
            raise InvalidArgument(
                f"{path} has rows of {btf.size(f'{name}_row')} bytes, this version has {row}"
            )
        return created

    @property
    def description(self) -> Description:
        """The fields of the key."""
        return self._state.shape.description

    @property
    def max_entries(self) -> int:
        """The capacity."""
        return self._state.shape.max_entries

    @property
    def algorithm(self) -> Algorithm:
        """How entries are found."""
        return self._state.algorithm

    @property
    def shape(self) -> Shape:
        """All sizes."""
        return self._state.shape

    def bind(self, target: BpfObject, name: str) -> None:
        """Make an object's programs use this map for ``WILDCARD_MAP(name, ...)``; call before ``load``.

        ``InvalidArgument`` where the object declares other fields or another value.
        """
        description, value_size = _declared(Btf.of_object(target.path), name)
        own = self._state.shape
        if not description.same_layout(own.description) or value_size != own.value_size:
            raise InvalidArgument(
                f"{target.path.name} declares {name} with {description} and {value_size} bytes of value, "
                f"the map has {own.description} and {own.value_size}"
            )
        for part, descriptor in self._state.storage.descriptors.items():
            target.reuse_map(f"{name}_{part}", descriptor)

    def begin(self) -> MapBatch:
        """Return an empty batch; ``batch()`` and ``group.batch()`` are what one calls."""
        return MapBatch(self._state)

    @contextlib.contextmanager
    def batch(self) -> Iterator[MapBatch]:
        """Collect changes; commit them all at once at the end, or none on an exception."""
        changes = self.begin()
        yield changes
        self._commit(changes)

    def _commit(self, changes: MapBatch) -> None:
        staged = changes.stage()
        if staged is not None:
            self.group.commit([staged])

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
        """Add or replace one. NOEXIST: ``EntryExists`` if it is there; EXIST: ``EntryNotFound`` if not."""
        with self.batch() as changes:
            changes.update(rule, value, priority=priority, order=order, rule_id=rule_id, flags=flags)

    def delete(self, rule: Rule, *, priority: int = 0, order: int = 0) -> None:
        """Remove one entry; ``EntryNotFound`` if it is not there."""
        with self.batch() as changes:
            changes.delete(rule, priority=priority, order=order)

    def load(self, arrays: RuleArrays) -> None:
        """Replace all entries."""
        with self.batch() as changes:
            changes.replace(arrays)

    def get(self, rule: Rule, *, priority: int = 0, order: int = 0) -> Entry | None:
        """Return the entry of this name, or None."""
        row = self._state.find(name_of(self.description, rule, priority, order))
        return None if row is None else self._entries(np.array([row]))[0]

    def match(self, element: Element, *, floor: int = 0) -> Entry | None:
        """Look an element up by the program in the kernel."""
        packet = np.frombuffer(encode_element(self.description, element), np.uint8)
        row = int(self.match_many(packet[None], floor=floor)[0]["row"])
        image, at = divmod(row, self.shape.rows)
        return self._entries(np.array([at]), image)[0] if row else None

    def match_many(self, packets: Bytes, *, floor: int = 0) -> npt.NDArray[np.void]:
        """Look up packets (uint8[n, key size]); returns records of place, row (0: none) and id."""
        if not 0 <= floor < 1 << 64:
            raise InvalidArgument(f"{floor} is not a place: 0 to {(1 << 64) - 1}", "floor")
        return self._program().match(padded(self.description, packets), floor)

    def time(self, loop: Benchmark, count: int, packets: Bytes, first: int = 0) -> float:
        """Seconds that the kernel takes for ``count`` lookups; packets: uint8[2 ** k, key size], k <= 12."""
        if self._timer is None:
            self._timer = self.matcher(loops=list(Benchmark))
        program = self._timer
        program.packets[: len(packets), : packets.shape[1]] = packets
        return program.time(loop, count, packets=len(packets), first=first)

    def matcher(self, capacity: int = 4096, loops: Collection[Benchmark] = ()) -> Matcher:
        """Load a program for up to ``capacity`` (a power of two) packets at once; the caller closes it."""
        return Matcher(self._state.storage, self.group.group_fd, capacity, loops)

    def _program(self) -> Matcher:
        if self._matcher is None:
            self._matcher = self.matcher()
        return self._matcher

    def __len__(self) -> int:
        return self._state.count()

    def __iter__(self) -> Iterator[Entry]:
        """All entries in the total order."""
        rows = self._state.live()
        order = np.argsort(self._state.image.rows["place"][rows])
        yield from self._entries(rows[order])

    def _entries(self, rows: npt.NDArray[np.intp], image: int | None = None) -> list[Entry]:
        source = self._state.image if image is None else self._state.storage.images[image]
        records = source.rows[rows]
        arrays = decode_rows(self._state.shape, records)
        return [
            Entry(
                decode_rule(self.description, arrays.low[index].tobytes(), arrays.high[index].tobytes()),
                int(arrays.priority[index]),
                int(arrays.order[index]),
                int(arrays.rule_id[index]),
                arrays.value[index].tobytes(),
                int(records["place"][index]),
            )
            for index in range(len(records))
        ]

    def entries(self) -> RuleArrays:
        """All entries in the total order, as arrays."""
        rows = self._state.live()
        order = np.argsort(self._state.image.rows["place"][rows])
        return decode_rows(self._state.shape, self._state.image.rows[rows[order]])

    def counters(self) -> npt.NDArray[np.uint64]:
        """Packets and bytes of each rule id since it was first used: uint64[ids, 2], summed over CPUs."""
        shape = self._state.shape
        return storage.counters(self._state.storage.descriptors["counters"], shape.max_rule_ids)

    def reset_counters(self, rule_ids: list[int]) -> None:
        """Set the counters of ids to zero; for ids that are given to something new."""
        storage.zero_counters(self._state.storage.descriptors["counters"], rule_ids)

    def stats(self) -> Stats:
        """Measure the active image."""
        return measure(self._state)

    def close(self) -> None:
        """Close everything; what is pinned stays. A group that the map made goes too."""
        for program in (self._matcher, self._timer):
            if program is not None:
                program.close()
        self._state.storage.close()
        if self._owns_group:
            self.group.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _declared(btf: Btf, name: str) -> tuple[Description, int]:
    """The description and the value size in bytes that an object declares for its map ``name``."""
    members = {member.name: member for member in btf.members(f"{name}_row")}
    description = Description.of_struct(btf, members["key"].type.removesuffix("_elem"))
    return description, members["value"].size if "value" in members else 0


def _algorithm(value: Algorithm | str) -> Algorithm:
    try:
        return Algorithm(value)
    except ValueError as error:
        known = ", ".join(Algorithm)
        raise InvalidArgument(f"{value!r} is not one of {known}", "algorithm") from error
