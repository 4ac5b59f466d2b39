# SPDX-License-Identifier: Apache-2.0
"""The files of `wildcardctl classify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from wildcard_operator.cli.rulefiles import FileError, WordError, parse_pool, read_packets, read_rules
from wildcard_operator.wildcardmap import Description, Pool

BAD = yaml.safe_load(Path(__file__).with_name("bad_lines.yaml").read_text(encoding="utf-8"))


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "file.txt"
    path.write_text(text, encoding="utf-8")
    return path


def described(case: dict[str, Any]) -> Description | None:
    return Description.parse(case["desc"]) if case["desc"] else None


def test_every_form_of_a_field_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "# desc: prefix4,prefix4,range2,range2,any1  # five fields\n"
        "10.0.0.0/8 0.0.0.0/0 0:65535 22:22 6\n"
        "\n"
        "   # only a comment\n"
        "0x0a010203 * * 80-90 *   prio=7 # why\r\n"
        "167772160/8\t10.0.0.1\t443 0x10:0x1f 0x11\n",
    )

    rules = read_rules(path)

    assert str(rules.description) == "prefix4,prefix4,range2,range2,any1"
    assert rules.low[:, :13].tolist() == [
        [10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 22, 6],
        [10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 80, 0],
        [10, 0, 0, 0, 10, 0, 0, 1, 1, 187, 0, 16, 17],
    ]
    assert rules.high[:, :13].tolist() == [
        [10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 22, 6],
        [10, 1, 2, 3, 255, 255, 255, 255, 255, 255, 0, 90, 255],
        [10, 255, 255, 255, 10, 0, 0, 1, 1, 187, 0, 31, 17],
    ]
    assert rules.priority.tolist() == [0, 7, 2]
    assert rules.order.tolist() == rules.rule_id.tolist() == [0, 1, 2]


def test_ipv6_text_is_a_value_of_16_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, "2001:db8::/32 ::1 443\n::ffff:10.0.0.1 * 0-65535\n")

    rules = read_rules(path, Description.parse("prefix16,prefix16,range2"))

    assert rules.low[0, :34].tobytes().hex() == "20010db8" + "0" * 24 + "0" * 31 + "1" + "01bb"
    assert rules.low[1, :16].tobytes().hex() == "0" * 20 + "ffff0a000001"
    assert rules.high[0, :16].tobytes().hex() == "20010db8" + "f" * 24


def test_packets_are_read_in_network_order(tmp_path: Path) -> None:
    path = written(tmp_path, "# addresses and a port\n10.0.0.1 80\n0xffffffff 0x1bb\n")

    packets = read_packets(path, Description.parse("prefix4,range2"))

    assert packets.tolist() == [[10, 0, 0, 1, 0, 80], [255, 255, 255, 255, 1, 187]]


def test_empty_files_are_no_rules_and_no_packets(tmp_path: Path) -> None:
    description = Description.parse("prefix4,range2")

    assert read_rules(written(tmp_path, "# nothing\n"), description).low.shape == (0, 8)
    assert read_packets(written(tmp_path, ""), description).shape == (0, 6)


@pytest.mark.parametrize("case", BAD["rules"], ids=lambda case: case["text"])
def test_a_malformed_rule_names_file_line_and_field(tmp_path: Path, case: dict[str, Any]) -> None:
    path = written(tmp_path, case["text"])

    with pytest.raises(FileError) as caught:
        read_rules(path, described(case))

    assert str(caught.value) == f"{path}:{case['error']}"


@pytest.mark.parametrize("case", BAD["packets"], ids=lambda case: case["text"])
def test_a_malformed_packet_names_file_line_and_field(tmp_path: Path, case: dict[str, Any]) -> None:
    path = written(tmp_path, case["text"])

    with pytest.raises(FileError) as caught:
        read_packets(path, Description.parse(case["desc"]))

    assert str(caught.value) == f"{path}:{case['error']}"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"6\n\xff\n")

    with pytest.raises(FileError, match=r":2: the file is not text$"):
        read_rules(path, Description.parse("match1"))


def test_pools_are_lists_or_products_of_prefix_lengths() -> None:
    description = Description.parse("prefix4,prefix4,match1")

    assert parse_pool("list:16,0,16;16,16,0", description) == Pool.of_list((16, 0, 16), (16, 16, 0))
    assert parse_pool("cart:24, 8;0;", description) == Pool.of_product((24, 8), (0,))


@pytest.mark.parametrize("case", BAD["pools"], ids=lambda case: case["text"])
def test_a_malformed_pool_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(WordError) as caught:
        parse_pool(case["text"], Description.parse(case["desc"]))

    assert str(caught.value) == case["error"]


def test_a_hundred_thousand_rules_are_read(tmp_path: Path) -> None:
    lines = [f"10.{at >> 8 & 255}.{at & 255}.0/24 * * {at % 60000} 6\n" for at in range(100_000)]
    path = written(tmp_path, "".join(lines))

    rules = read_rules(path, Description.parse("prefix4,prefix4,range2,range2,match1"))

    assert rules.priority.tolist() == np.arange(100_000).tolist()
