# SPDX-License-Identifier: Apache-2.0
"""Measure the wildcard map and what the kernel has beside it, in one run: ``make bench-map``.

Every cell is a shape, a family and a size (sets.py). The figures go to build/bench/map.json, the tables and
the plot into docs/performance.md.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import click
import kernelmaps
import nftables
import report
import sets
from document import ROOT
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from typing_extensions import override

from wildcard_operator.cli.measure import Stopwatch, figures, timed
from wildcard_operator.wildcardmap import (
    Algorithm,
    Benchmark,
    Description,
    Kind,
    Pool,
    RuleArrays,
    WildcardMap,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    Packets = npt.NDArray[np.uint8]
    Loops = tuple[Benchmark, ...]

RESULTS = ROOT / "build" / "bench" / "map.json"
# A chain of all rules is quadratic to look at, and nobody would choose it.
MOST_FOR_BRUTE_FORCE = 1_000
MOST_FOR_NFTABLES = 10_000
SECONDS = 0.5
PASSES = 3


@dataclass(frozen=True, slots=True)
class Cell:
    """One rule set, by what makes it."""

    shape: str
    family: int
    rules: int

    @override
    def __str__(self) -> str:
        return f"{self.shape} v{self.family} {self.rules:,}"


class Measured:
    """A map for one rule set, which it may be given in several orders."""

    def __init__(self, rules: sets.Boxes, packets: Packets, algorithm: Algorithm, loops: Loops) -> None:
        self._description = Description.parse(rules.description)
        pool = _pool(self._description) if algorithm is Algorithm.STATIC_TUPLE_MERGE else None
        self._map = WildcardMap.create(
            self._description, max_entries=len(rules), algorithm=algorithm, pool=pool
        )
        self._watch = Stopwatch(self._map, packets, SECONDS, loops)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._watch.__exit__(*exc)
        self._map.close()

    def load(self, rules: sets.Boxes) -> float:
        """Load rules; returns the seconds."""
        arrays = RuleArrays.from_intervals(
            self._description, rules.low, rules.high, priorities=rules.priority
        )
        return timed(lambda: self._map.load(arrays))

    def everything(self, rules: sets.Boxes) -> dict[str, object]:
        """Load rules; returns all figures and the map's own."""
        load_s = self.load(rules)
        stats = asdict(self._map.stats())
        made = asdict(figures(self._map, self._watch, load_s))
        return made | stats | {"ns_grace": self._map.group.last_grace_seconds * 1e9}

    def in_turn(self, orders: Mapping[str, sets.Boxes]) -> dict[str, float]:
        """Nanoseconds of an independent lookup for each order: the median of PASSES loads.

        They take turns, so that what disturbs the machine for a moment, or an unlucky hash seed, is in none.
        """
        times: dict[str, list[float]] = {order: [] for order in orders}
        for _ in range(PASSES):
            for order, rules in orders.items():
                self.load(rules)
                times[order].append(self.lookup())
        return {order: statistics.median(found) for order, found in times.items()}

    def lookup(self) -> float:
        """Nanoseconds of an independent lookup."""
        return self._watch.median(Benchmark.INDEPENDENT) - self._watch.median(Benchmark.EMPTY)


def _pool(description: Description) -> Pool:
    """All, half and none of each address's bits: what one would guess who knows no rules."""
    lengths = [
        (field.bits, field.bits // 2, 0) if index < 3 else (0,)
        for index, field in enumerate(field for field in description.fields if field.kind is Kind.PREFIX)
    ]
    return Pool.of_product(*lengths)


def run_cell(cell: Cell, record: dict[str, object]) -> None:
    """Everything that is measured for one set."""
    rules = sets.make_rules(cell.shape, cell.family, cell.rules)
    packets = sets.make_packets(rules)
    record["kernel"] = asdict(kernelmaps.measure(rules, packets))
    if cell.shape != "policy" and cell.rules <= MOST_FOR_NFTABLES:
        found = nftables.measure(cell.shape, cell.family, cell.rules)
        record["nftables"] = asdict(found) if found else None
    with Measured(rules, packets, Algorithm.AUTO, tuple(Benchmark)) as auto:
        record["auto"] = auto.everything(rules)
        record["orders"] = auto.in_turn({order: sets.reorder(rules, order) for order in sets.ORDERS})
    for algorithm in (Algorithm.BRUTE_FORCE, Algorithm.TUPLE_MERGE, Algorithm.STATIC_TUPLE_MERGE):
        if algorithm is Algorithm.BRUTE_FORCE and cell.rules > MOST_FOR_BRUTE_FORCE:
            continue
        with Measured(rules, packets, algorithm, (Benchmark.INDEPENDENT, Benchmark.EMPTY)) as other:
            other.load(rules)
            record[algorithm.value] = other.lookup()


@click.command()
@click.option("--shapes", default=",".join(sets.SHAPES), show_default=True, help="Shapes to measure.")
@click.option("--sizes", default=",".join(map(str, sets.SIZES)), show_default=True, help="Sizes to measure.")
@click.option("--report-only", is_flag=True, help="Write the document from the figures of the last run.")
def main(shapes: str, sizes: str, *, report_only: bool) -> None:
    """Measure all cells and write docs/performance.md."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    if not report_only:
        cells = [
            Cell(shape, family, int(size))
            for shape in shapes.split(",")
            for family in sets.FAMILIES
            for size in sizes.split(",")
        ]
        run(cells)
    report.write(json.loads(RESULTS.read_text(encoding="utf-8")))


def run(cells: list[Cell]) -> None:
    """Measure all cells behind a progress bar; what is measured is kept, whatever comes after."""
    results: dict[str, dict[str, object]] = {}
    columns = TextColumn("{task.description:>18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns) as progress:
        task = progress.add_task("", total=len(cells))
        for cell in cells:
            progress.update(task, description=str(cell))
            run_cell(cell, results.setdefault(str(cell), asdict(cell)))
            RESULTS.write_text(json.dumps(results, indent=1), encoding="utf-8")
            progress.advance(task)


if __name__ == "__main__":
    main()
