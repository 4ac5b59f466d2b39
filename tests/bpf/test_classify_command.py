# SPDX-License-Identifier: Apache-2.0
"""`wildcardctl classify` over the running kernel, through its command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

from support.brute import BruteForce, Entry
from support.map_strategies import make_entries, make_packets
from wildcard_operator.cli.classify import classify_command
from wildcard_operator.wildcardmap import ANY, Description, Kind

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from click.testing import Result

RULES = """\
# desc: prefix4,prefix4,range2,range2,match1
10.0.0.0/8 0.0.0.0/0 0:65535 22:22 6
10.0.0.0/8 * * 80-90 6 prio=9
* * * 85 6 prio=3
"""
PACKETS = (
    "10.1.1.1 1.1.1.1 5 22 6\n10.1.1.1 1.1.1.1 5 81 6\n10.1.1.1 1.1.1.1 5 85 6\n10.1.1.1 1.1.1.1 5 9 6\n"
)
BENCH_KEYS = [
    "algorithm",
    "rules",
    "tables",
    "ns_per_lookup",
    "ns_dependent",
    "ns_empty",
    "ns_p99",
    "ns_per_update",
    "ns_commit_one",
    "load_s",
    "packets",
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "rules.txt").write_text(RULES)
    (tmp_path / "packets.txt").write_text(PACKETS)
    return tmp_path


def classify(folder: Path, *options: str) -> Result:
    arguments = ["--rules", f"{folder}/rules.txt", "--packets", f"{folder}/packets.txt", *options]
    return CliRunner().invoke(classify_command, arguments)


@pytest.mark.parametrize("order", ["file", "rev", "shuffle"])
@pytest.mark.parametrize(
    "algorithm",
    [
        ["auto"],
        ["bf"],
        ["tm"],
        ["tm-static", "--pool", "list:8,0;0,0"],
        ["tm-static", "--pool", "cart:8,0;0;;;"],
    ],
    ids=" ".join,
)
def test_each_packet_gets_the_index_of_the_rule_that_wins(
    files: Path, algorithm: list[str], order: str
) -> None:
    result = classify(files, "--order", order, "--algorithm", *algorithm)

    assert (result.exit_code, result.stdout) == (0, "0\n1\n2\n-1\n")


def test_the_first_line_wins_among_equal_priorities(files: Path) -> None:
    (files / "rules.txt").write_text("* 80 prio=5\n* * prio=5\n10.0.0.0/8 80 prio=5\n* * prio=5\n")
    (files / "packets.txt").write_text("10.0.0.1 80\n10.0.0.1 81\n")

    for order in ("file", "rev", "shuffle"):
        result = classify(files, "--desc", "prefix4,range2", "--order", order)

        assert result.stdout == "0\n1\n"


def test_no_rules_match_nothing_and_no_packets_print_nothing(files: Path) -> None:
    (files / "rules.txt").write_text("# desc: match1\n")
    (files / "packets.txt").write_text("1\n2\n")

    assert classify(files).stdout == "-1\n-1\n"

    (files / "packets.txt").write_text("")

    assert classify(files).stdout == ""


def test_random_files_give_what_brute_force_gives(files: Path) -> None:
    description = Description.parse("prefix4,prefix16,range8,any2,match1")
    rng = np.random.default_rng(7)
    entries = [
        Entry(entry.rule, entry.priority, index)
        for index, entry in enumerate(make_entries(rng, description, 200, priorities=2))
    ]
    packets = make_packets(rng, description, entries, 2000)
    (files / "rules.txt").write_text("".join(rule_line(description, entry) for entry in entries))
    (files / "packets.txt").write_text("".join(packet_line(description, packet) for packet in packets))

    result = classify(files, "--desc", str(description))

    expected = BruteForce(description, entries).winners(packets).tolist()
    assert list(map(int, result.stdout.split())) == expected
    assert len(set(expected)) > 20


def rule_line(description: Description, entry: Entry) -> str:
    words = []
    for field, item in zip(description.fields, entry.rule, strict=True):
        if item is ANY:
            words.append("*")
        elif isinstance(item, tuple):
            words.append(f"{item[0]}{'/' if field.kind is Kind.PREFIX else ':'}{item[1]}")
        else:
            words.append(str(item))
    return " ".join([*words, f"prio={entry.priority}\n"])


def packet_line(description: Description, packet: npt.NDArray[np.uint8]) -> str:
    parts = [
        packet[offset : offset + field.size].tobytes().hex()
        for field, offset in zip(description.fields, description.offsets, strict=True)
    ]
    return " ".join("0x" + part for part in parts) + "\n"


@pytest.mark.parametrize("algorithm", ["auto", "bf", "tm"])
def test_bench_prints_one_object_with_all_figures(files: Path, algorithm: str) -> None:
    result = classify(files, "--algorithm", algorithm, "--bench", "0.2")

    figures = json.loads(result.stdout)
    assert list(figures) == BENCH_KEYS
    assert (figures["algorithm"], figures["rules"], figures["packets"]) == (algorithm, 3, 4)
    assert all(figures[key] > 0 for key in BENCH_KEYS[2:])


@pytest.mark.parametrize(
    ("options", "rules", "packets", "message"),
    [
        (
            [],
            "# desc: prefix4\n10.0.0.1/8\n",
            "10.0.0.1\n",
            "rules.txt:2: field 1 (prefix4): 10.0.0.1/8 has bits",
        ),
        (
            [],
            "# desc: prefix4\n10.0.0.0/8\n",
            "10.0.0\n",
            "packets.txt:1: field 1 (prefix4): '10.0.0' is not",
        ),
        (["--desc", "prefix3"], "1\n", "1\n", "f0: a prefix field has 1, 2, 4, 8, 16 bytes, not 3"),
        (["--desc", "match1"], "1\n", "1\n", None),
        (["--desc", "match1", "--pool", "list:"], "1\n", "1\n", "pool"),
        (["--desc", "prefix1", "--algorithm", "tm-static"], "1\n", "1\n", "a pool goes with tm-static"),
        (
            ["--desc", "prefix1", "--algorithm", "tm-static", "--pool", "list:9"],
            "1\n",
            "1\n",
            "prefix length 9 does not fit: 0 to 8",
        ),
        (["--desc", "match1", "--bench", "1"], "1\n", "", "no packets to measure with"),
    ],
)
def test_input_that_cannot_be_is_named_and_ends_with_status_2(
    files: Path, options: list[str], rules: str, packets: str, message: str | None
) -> None:
    (files / "rules.txt").write_text(rules)
    (files / "packets.txt").write_text(packets)

    result = classify(files, *options)

    if message is None:
        assert result.exit_code == 0
    else:
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stdout == ""


def test_a_missing_file_and_an_unknown_algorithm_end_with_status_2(files: Path) -> None:
    assert classify(files / "missing").exit_code == 2
    assert classify(files, "--algorithm", "best").exit_code == 2
