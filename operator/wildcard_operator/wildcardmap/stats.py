# SPDX-License-Identifier: Apache-2.0
"""How good an image is: chains and probes, measured on the entries that it holds."""

import dataclasses

import numpy as np

from . import builder, editor, hashing, windows
from .state import MapState
from .storage import TABLE_PLACES


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """Figures of the active image.

    entries, capacity; memory in bytes; tables; rows in the longest chain and in the average one; tables
    that a lookup with an entry's own packet visits on average, and the most tables and rows that any lookup
    can visit.
    """

    entries: int
    capacity: int
    memory: int
    tables: int
    longest_chain: int
    average_chain: float
    average_probes: float
    worst_probes: int


def measure(state: MapState) -> Stats:
    """Return the figures; reads the whole image."""
    image, shape, live = state.image, state.shape, state.live()
    tables = int(image.head["tables"][0]).bit_count()
    if not len(live):
        return Stats(0, shape.max_entries, shape.memory(), tables, 0, 0.0, 0.0, 0)
    rows = image.rows[live]
    low = builder.decode_rows(shape, rows).low
    table = rows["table"].astype(np.intp) - 1
    if image.head["direct"][0]:
        chains = np.ones(len(live), np.intp)
    else:
        records = image.tables[TABLE_PLACES[table]]
        masked = low.view(np.uint64) & records["mask"]
        hashed = hashing.hashes(image.head["seed"][0], records["seed"], masked)
        chains = np.unique(hashed & np.uint32(shape.buckets - 1), return_counts=True)[1]
    sets = np.full(len(live), image.head["tables"][0], np.uint64)
    packets = low.view(np.uint64).byteswap()
    for window, start in editor.windows_of(shape, image):
        sets &= image.index[start + windows.values(window, packets)]
    longest = int(chains.max())
    return Stats(
        entries=len(live),
        capacity=shape.max_entries,
        memory=shape.memory(),
        tables=tables,
        longest_chain=longest,
        average_chain=float(chains.mean()),
        average_probes=float(np.bitwise_count(sets).mean()),
        worst_probes=tables + longest,
    )
