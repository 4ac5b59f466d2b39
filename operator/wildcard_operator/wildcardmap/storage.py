# SPDX-License-Identifier: Apache-2.0
"""The kernel's arrays of one wildcard map, as numpy arrays over shared memory.

``bpf/wildcard/layout.h`` says what they hold. Everything here is mechanical: create, pin, open, view. What is
written, and when, is decided in ``builder`` and ``group``.
"""

import dataclasses
import json
import mmap
import os
import struct
from pathlib import Path
from typing import Final, Self, cast

import numpy as np
import numpy.typing as npt

from . import bpfsys
from .description import LAYOUT_VERSION, MAX_TABLES, Description, Field, Kind
from .errors import InvalidArgument, MapFull
from .windows import MAX_WINDOWS

PARTS: Final = ("head", "rules", "buckets", "index", "counters")
MAX_ENTRIES: Final = 1 << 22
_ABOUT_SIZE: Final = 4096

WINDOW_TYPE = np.dtype([("word", "u4"), ("shift", "u4"), ("mask", "u4"), ("base", "u4")])
BUCKET_TYPE = np.dtype([("place", "u8"), ("row", "u4"), ("filter", "u4")])
HEAD_TYPE = np.dtype(
    [
        ("tables", "u8"),
        ("nowhere", "u8"),
        ("direct", "u4"),
        ("windows", "u4"),
        ("rows_base", "u4"),
        ("buckets_base", "u4"),
        ("bucket_mask", "u4"),
        ("none", "u4"),
        ("chunk", "u4"),
        ("reserved", "u4"),
        ("window", WINDOW_TYPE, (MAX_WINDOWS,)),
        ("seed", "u4", (32,)),
    ]
)


TABLE_PLACES: Final = np.array(
    [((1 << table) * 0x022FDD63CC95386D & (1 << 64) - 1) >> 58 for table in range(MAX_TABLES)], np.intp
)
"""Where the record of each table stands, as WILDCARD_TABLE_PLACES of layout.h makes it."""


def table_type(words: int) -> np.dtype[np.void]:
    """The numpy type of struct wildcard_table and its mask."""
    return np.dtype(
        [
            ("best", "u8"),
            ("rest", "u8"),
            ("seed", "u8"),
            ("mask", "u8", (words,)),
        ]
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a map; all are fixed when it is created."""

    description: Description
    value_size: int
    max_entries: int
    max_rule_ids: int

    def __post_init__(self) -> None:
        if not 1 <= self.max_entries <= MAX_ENTRIES:
            problem = f"a map holds 1 to {MAX_ENTRIES} entries, not {self.max_entries}"
            raise (
                MapFull(problem, "max_entries")
                if self.max_entries > 0
                else InvalidArgument(problem, "max_entries")
            )
        if not 0 <= self.value_size <= 1024:
            raise InvalidArgument(f"a value has 0 to 1024 bytes, not {self.value_size}", "value_size")
        if not 1 <= self.max_rule_ids <= MAX_ENTRIES:
            raise InvalidArgument(f"1 to {MAX_ENTRIES} rule ids, not {self.max_rule_ids}", "max_rule_ids")

    @property
    def rows(self) -> int:
        """Rows of an image, the unused row 0 included."""
        return self.max_entries + 1

    @property
    def buckets(self) -> int:
        """Buckets of an image: a power of two, at least two for each entry."""
        return 1 << max(4, (2 * self.max_entries - 1).bit_length())

    @property
    def window_bits(self) -> int:
        """Bits of the widest window."""
        return min(12, max(8, self.max_entries.bit_length() + 2))

    @property
    def index_size(self) -> int:
        """Elements of an image's index arrays."""
        return MAX_WINDOWS << self.window_bits

    @property
    def row_type(self) -> np.dtype[np.void]:
        """The numpy type of a row."""
        return self.description.row_type(self.value_size)

    @property
    def head_size(self) -> int:
        """Bytes of an image's head and tables."""
        return HEAD_TYPE.itemsize + MAX_TABLES * table_type(self.description.words).itemsize

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Name of a part -> (value size in bytes, elements)."""
        return {
            "head": (self.head_size, 2),
            "rules": (self.row_type.itemsize, 2 * self.rows),
            "buckets": (BUCKET_TYPE.itemsize, 2 * self.buckets),
            "index": (8, 2 * self.index_size),
            "counters": (16, self.max_rule_ids),
        }

    def memory(self) -> int:
        """Bytes that the arrays take, counters once a possible CPU."""
        sizes = self.sizes()
        shared = sum(size * count for name, (size, count) in sizes.items() if name != "counters")
        return shared + 16 * self.max_rule_ids * bpfsys.possible_cpus()


class Image:
    """One of the two images as arrays; ``head`` is one record."""

    def __init__(self, shape: Shape, memory: dict[str, mmap.mmap], number: int) -> None:
        start = number * shape.head_size
        self.head = np.frombuffer(memory["head"], HEAD_TYPE, 1, start)
        tables = table_type(shape.description.words)
        self.tables = np.frombuffer(memory["head"], tables, MAX_TABLES, start + HEAD_TYPE.itemsize)
        row_type, rows = shape.row_type, shape.rows
        self.rows = np.frombuffer(memory["rules"], row_type, rows, number * rows * row_type.itemsize)
        self.buckets = np.frombuffer(
            memory["buckets"], BUCKET_TYPE, shape.buckets, number * shape.buckets * BUCKET_TYPE.itemsize
        )
        self.index = np.frombuffer(
            memory["index"], np.uint64, shape.index_size, 8 * number * shape.index_size
        )
        self.index_base = number * shape.index_size
        self.rows_base = number * rows
        self.buckets_base = number * shape.buckets

    def clear(self) -> None:
        """Make this an image without entries."""
        self.head[:] = 0
        self.head["nowhere"] = np.uint64(0xFFFFFFFFFFFFFFFF)
        self.place_head()

    def place_head(self) -> None:
        """Set what differs between the images: where their parts start."""
        self.head["rows_base"] = self.rows_base
        self.head["buckets_base"] = self.buckets_base

    def copy_from(self, other: "Image", rows: int) -> None:
        """Become the other image, whose highest row in use is below ``rows``."""
        self.rows[:rows] = other.rows[:rows]
        if rows < len(self.rows):
            self.rows["table"][rows:] = 0
        self.buckets[:] = other.buckets
        self.index[:] = other.index
        self.tables[:] = other.tables
        self.head[:] = other.head
        self.place_head()
        used = self.head["windows"][0]
        self.head["window"]["base"][0, :used] += np.uint32((self.index_base - other.index_base) & 0xFFFFFFFF)


class Storage:
    """The maps of one wildcard map: descriptors, memory, and the two images."""

    def __init__(self, shape: Shape, descriptors: dict[str, int]) -> None:
        self.shape, self.descriptors = shape, descriptors
        memory = {}
        for name, (size, count) in shape.sizes().items():
            if name != "counters":
                length = -(-size * count // mmap.PAGESIZE) * mmap.PAGESIZE
                memory[name] = mmap.mmap(descriptors[name], length)
        self.images = (Image(shape, memory, 0), Image(shape, memory, 1))

    @classmethod
    def create(cls, shape: Shape, name: str) -> Self:
        """Create empty maps."""
        descriptors = {}
        for part, (size, count) in shape.sizes().items():
            counters = part == "counters"
            descriptors[part] = bpfsys.map_create(
                bpfsys.MapType.PERCPU_ARRAY if counters else bpfsys.MapType.ARRAY,
                key_size=4,
                value_size=size,
                max_entries=count,
                flags=0 if counters else bpfsys.F_MMAPABLE,
                name=f"{name}_{part}",
            )
        storage = cls(shape, descriptors)
        for image in storage.images:
            image.clear()
        return storage

    def pin(self, folder: Path, extra: dict[str, object]) -> None:
        """Pin the maps in ``folder`` with a record of what they are; ``extra`` is kept for the opener."""
        shape = self.shape
        about = {
            "layout": LAYOUT_VERSION,
            "fields": [[field.name, field.kind.value, field.size] for field in shape.description.fields],
            "value_size": shape.value_size,
            "max_entries": shape.max_entries,
            "max_rule_ids": shape.max_rule_ids,
            **extra,
        }
        text = json.dumps(about).encode().ljust(_ABOUT_SIZE, b"\0")
        descriptor = bpfsys.map_create(
            bpfsys.MapType.ARRAY, key_size=4, value_size=_ABOUT_SIZE, max_entries=1, name="wildcard_about"
        )
        bpfsys.map_update(descriptor, bytes(4), text)
        folder.mkdir(exist_ok=True)
        for name in PARTS:
            bpfsys.pin(self.descriptors[name], folder / name)
        # Last: a folder without it is not a map, however far a creator came.
        bpfsys.pin(descriptor, folder / "about")
        os.close(descriptor)

    @classmethod
    def open(cls, folder: Path) -> tuple[Self, dict[str, str]]:
        """Open pinned maps; returns the storage and what ``pin`` was given as ``extra``."""
        try:
            descriptor = bpfsys.get_pinned(folder / "about")
        except FileNotFoundError as error:
            raise InvalidArgument(f"{folder} holds no wildcard map") from error
        text = bpfsys.map_lookup(descriptor, bytes(4), _ABOUT_SIZE) or b""
        os.close(descriptor)
        about = json.loads(text.rstrip(b"\0"))
        if about.pop("layout") != LAYOUT_VERSION:
            raise InvalidArgument(
                f"{folder} has another layout than {LAYOUT_VERSION}: remove it or use its version"
            )
        fields = tuple(Field(name, Kind(kind), size) for name, kind, size in about.pop("fields"))
        shape = Shape(
            Description(fields), about.pop("value_size"), about.pop("max_entries"), about.pop("max_rule_ids")
        )
        descriptors = {name: bpfsys.get_pinned(folder / name) for name in PARTS}
        for name, (size, count) in shape.sizes().items():
            info = bpfsys.map_info(descriptors[name])
            if (info.value_size, info.max_entries) != (size, count):
                raise InvalidArgument(
                    f"{folder / name} has {info.max_entries} x {info.value_size} bytes, not {count} x {size}"
                )
        return cls(shape, descriptors), about

    def close(self) -> None:
        """Close the descriptors; memory goes when the arrays go."""
        for descriptor in self.descriptors.values():
            os.close(descriptor)


def counters(descriptor: int, ids: int) -> npt.NDArray[np.uint64]:
    """Read counters: uint64[ids, 2] of packets and bytes, summed over the CPUs."""
    cpus = bpfsys.possible_cpus()
    data = bpfsys.map_lookup_many(descriptor, ids, 16 * cpus)
    of_cpus = np.frombuffer(data, np.uint64).reshape(ids, cpus, 2)
    return cast("npt.NDArray[np.uint64]", of_cpus.sum(axis=1, dtype=np.uint64))


def zero_counters(descriptor: int, rule_ids: list[int]) -> None:
    """Set the counters of these ids to zero."""
    zeros = bytes(16 * bpfsys.possible_cpus())
    for rule_id in rule_ids:
        bpfsys.map_update(descriptor, struct.pack("=I", rule_id), zeros)
