# SPDX-License-Identifier: Apache-2.0
"""`wildcardctl top`: the rules of this node by packets a second, live."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from wildcard_operator.cli.dump import DEFAULT_BPFFS, opened_node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wildcard_operator.datapath.maps import NodeMaps
    from wildcard_operator.model.entries import RuleName

Counts = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Rate:
    """What a rule or event counted in a while: per second, and in all."""

    label: str
    packets_per_second: float
    bytes_per_second: float
    packets: int


@click.command("top")
@click.option(
    "--bpffs", type=click.Path(file_okay=False, path_type=Path), default=DEFAULT_BPFFS, show_default=True
)
@click.option("--interval", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, help="Seconds.")
@click.option("--rounds", type=click.IntRange(1), help="Stop after so many intervals; else runs until ^C.")
@click.option("--lines", type=click.IntRange(1), default=20, show_default=True, help="Rules shown.")
def top_command(bpffs: Path, interval: float, rounds: int | None, lines: int) -> None:
    """Show rules by packets a second, live."""
    console = Console()
    with opened_node(bpffs) as (maps, _, _), Live(console=console, auto_refresh=False) as live:
        before = read_counts(maps)
        done = 0
        while rounds is None or done < rounds:
            time.sleep(interval)
            after = read_counts(maps)
            live.update(as_table(rates(before, after, interval)[:lines]), refresh=True)
            before, done = after, done + 1


def read_counts(maps: NodeMaps) -> Counts:
    """Packets and bytes of every rule and event so far."""
    counters = maps.rule_counters()
    found = {
        _label(name): (int(counters[rule, 0]), int(counters[rule, 1]))
        for rule, name in maps.read_names().items()
    }
    events = {f"({event.replace('_', ' ')})": count for event, count in maps.event_counts().items()}
    return found | events


def rates(
    before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]], seconds: float
) -> list[Rate]:
    """What happened between two readings, the busiest first; what never counted anything is left out."""
    found = []
    for label, (packets, octets) in after.items():
        old_packets, old_octets = before.get(label, (0, 0))
        # Less than before: the number was given to another rule, which began at 0.
        base = (old_packets, old_octets) if packets >= old_packets else (0, 0)
        if packets:
            found.append(Rate(label, (packets - base[0]) / seconds, (octets - base[1]) / seconds, packets))
    return sorted(found, key=lambda rate: (-rate.packets_per_second, -rate.packets, rate.label))


def as_table(shown: list[Rate]) -> Table:
    """Rates for people."""
    table = Table(header_style="bold", box=None, pad_edge=False)
    table.add_column("packets/s", justify="right")
    table.add_column("bits/s", justify="right")
    table.add_column("packets", justify="right")
    table.add_column("rule", overflow="fold", ratio=1)
    for rate in shown:
        table.add_row(
            f"{rate.packets_per_second:,.0f}",
            _short(8 * rate.bytes_per_second),
            f"{rate.packets:,}",
            rate.label,
        )
    return table


def _short(number: float) -> str:
    for unit in ("", "k", "M", "G"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"


def _label(name: RuleName) -> str:
    subject = "/".join(part for part in (name.namespace, name.name) if part)
    return f"{name.action.value:5} {name.direction.value:7} {name.kind.value} {subject} {name.rule}"
