# SPDX-License-Identifier: Apache-2.0
"""The wildcard map: a classifier over several fields, in pure BPF.

``WildcardMap`` is the map, ``WildcardGroup`` makes several share one commit, ``Description`` says what the
key is.
"""

from .batch import MapBatch, UpdateFlag
from .builder import Algorithm
from .description import Description, Field, Kind
from .errors import EntryExists, EntryNotFound, InvalidArgument, MapBusy, MapFull, WildcardError
from .group import GroupBatch, WildcardGroup
from .map import Entry, WildcardMap
from .pool import Pool
from .program import Benchmark
from .rules import ANY, ASSIGNED, RuleArrays
from .stats import Stats

__all__ = [
    "ANY",
    "ASSIGNED",
    "Algorithm",
    "Benchmark",
    "Description",
    "Entry",
    "EntryExists",
    "EntryNotFound",
    "Field",
    "GroupBatch",
    "InvalidArgument",
    "Kind",
    "MapBatch",
    "MapBusy",
    "MapFull",
    "Pool",
    "RuleArrays",
    "Stats",
    "UpdateFlag",
    "WildcardError",
    "WildcardGroup",
    "WildcardMap",
]
