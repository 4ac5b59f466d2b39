# SPDX-License-Identifier: Apache-2.0
"""``wildcardctl classify``: rules and packets from files, through a real map in the kernel."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from wildcard_operator.cli.documents import InputError
from wildcard_operator.cli.measure import measure, timed
from wildcard_operator.cli.rulefiles import FileError, WordError, parse_pool, read_packets, read_rules
from wildcard_operator.wildcardmap import Algorithm, Description, WildcardError, WildcardMap

if TYPE_CHECKING:
    import numpy.typing as npt

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SEED = 1


@click.command("classify")
@click.option(
    "--desc",
    "description_text",
    help="The fields: prefix4,range2,match1, ... (kinds: prefix, range, match, any).",
)
@click.option("--rules", "rules_path", type=FILE, required=True, help="A rule a line.")
@click.option("--packets", "packets_path", type=FILE, required=True, help="A packet a line.")
@click.option(
    "--algorithm", type=click.Choice([item.value for item in Algorithm]), default="auto", show_default=True
)
@click.option("--pool", "pool_text", help="Tables of tm-static: list:16,0;16,24 or cart:24,16;32,0.")
@click.option(
    "--order",
    type=click.Choice(["file", "rev", "shuffle"]),
    default="file",
    show_default=True,
    help="The order of insertion.",
)
@click.option(
    "--bench",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Measure for about so many seconds and print JSON.",
)
def classify_command(
    description_text: str | None,
    rules_path: Path,
    packets_path: Path,
    algorithm: str,
    pool_text: str | None,
    order: str,
    seconds: float | None,
) -> None:
    """Print for each packet the index of the rule that wins, or -1.

    The rules go into a wildcard map in the running kernel, the packets through a BPF program. Needs root.
    """
    try:
        description = Description.parse(description_text) if description_text is not None else None
        rules = read_rules(rules_path, description)
        packets = read_packets(packets_path, rules.description)
        pool = parse_pool(pool_text, rules.description) if pool_text is not None else None
        if seconds is not None and not len(packets):
            raise InputError(f"{packets_path}: no packets to measure with")
        with WildcardMap.create(
            rules.description, max_entries=max(1, len(rules)), algorithm=algorithm, pool=pool
        ) as target:
            inserted = rules.take(_insertion(len(rules), order))
            load_s = timed(lambda: target.load(inserted))
            if seconds is None:
                _print_winners(target.match_many(packets))
            else:
                click.echo(json.dumps(asdict(measure(target, packets, seconds, load_s))))
    except (FileError, WordError) as error:
        raise InputError(str(error)) from error
    except WildcardError as error:
        raise InputError(error.strerror or str(error)) from error
    except OSError as error:
        raise click.ClickException(error.strerror or str(error)) from error


def _insertion(count: int, order: str) -> npt.NDArray[np.intp]:
    """Positions in the order in which rules shall be inserted; the shuffle is always the same."""
    rows = np.arange(count)
    if order == "rev":
        return rows[::-1]
    if order == "shuffle":
        return np.random.default_rng(SEED).permutation(rows)
    return rows


def _print_winners(answers: npt.NDArray[np.void]) -> None:
    winners = np.where(answers["row"] == 0, -1, answers["id"].astype(np.int64))
    if len(winners):
        click.echo("\n".join(map(str, winners.tolist())))
