# SPDX-License-Identifier: Apache-2.0
"""Rules as people write them, and as arrays."""

from __future__ import annotations

import errno
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given

from support.brute import spans
from support.map_strategies import Case, cases
from wildcard_operator.wildcardmap import ANY, Description, InvalidArgument, RuleArrays
from wildcard_operator.wildcardmap.rules import decode_rule, encode_element, encode_rule

BAD = yaml.safe_load(Path(__file__).with_name("bad_rules.yaml").read_text(encoding="utf-8"))


def test_every_form_of_an_item_means_what_it_says() -> None:
    description = Description.parse("prefix4,prefix4,prefix4,range2,range2,any1,any1,match4")
    rule = (ip_network("10.0.0.0/8"), (0x0A0B0000, 16), ANY, (80, 90), 443, 6, ANY, ip_address("1.2.3.4"))

    low, high = encode_rule(description, rule)

    padding = bytes(2)
    assert low == bytes.fromhex("0a000000 0a0b0000 00000000 0050 01bb 06 00 01020304") + padding
    assert high == bytes.fromhex("0affffff 0a0bffff ffffffff 005a 01bb 06 ff 01020304") + padding


def test_an_element_is_its_fields_in_network_order() -> None:
    description = Description.parse("prefix16,range2,match1")

    element = encode_element(description, (ip_address("2001:db8::1"), 443, b"\x06"))

    assert element == ip_address("2001:db8::1").packed + b"\x01\xbb\x06" + bytes(5)


@given(case=cases())
def test_arrays_hold_what_the_rules_say(case: Case) -> None:
    rules = [entry.rule for entry in case.entries]

    arrays = RuleArrays.from_rules(case.description, rules)

    for index, rule in enumerate(rules):
        expected = spans(case.description, rule)
        for field, offset, (low, high) in zip(
            case.description.fields, case.description.offsets, expected, strict=True
        ):
            part = slice(offset, offset + field.size)
            assert int.from_bytes(arrays.low[index, part].tobytes(), "big") == low
            assert int.from_bytes(arrays.high[index, part].tobytes(), "big") == high


@given(case=cases())
def test_decoding_gives_a_rule_of_the_same_meaning(case: Case) -> None:
    for entry in case.entries:
        low, high = encode_rule(case.description, entry.rule)

        assert encode_rule(case.description, decode_rule(case.description, low, high)) == (low, high)


@given(case=cases())
def test_identities_sort_as_the_total_order(case: Case) -> None:
    arrays = RuleArrays.from_rules(
        case.description,
        [entry.rule for entry in case.entries],
        priorities=[entry.priority for entry in case.entries],
        orders=[entry.order for entry in case.entries],
    )
    places = [
        (entry.priority, entry.order, *zip(*spans(case.description, entry.rule), strict=True))
        for entry in case.entries
    ]

    identities = arrays.identities()

    in_order = sorted(range(len(places)), key=places.__getitem__)
    assert sorted(range(len(places)), key=identities.__getitem__) == in_order


@pytest.mark.parametrize("case", BAD, ids=lambda case: case["desc"] + " " + case["rule"])
def test_a_rule_that_cannot_be_names_its_field(case: dict[str, Any]) -> None:
    names = {"ip_address": ip_address, "ip_network": ip_network, "ANY": ANY}
    rule = eval(case["rule"], names)  # noqa: S307 - the expressions are this test's own data

    with pytest.raises(InvalidArgument) as caught:
        encode_rule(Description.parse(case["desc"]), rule)

    assert caught.value.errno == errno.EINVAL
    assert caught.value.field == case["field"]
    assert case["error"] in caught.value.strerror


@pytest.mark.parametrize(
    ("desc", "low", "high"),
    [
        ("prefix2", [1, 0], [1, 254]),
        ("prefix2", [1, 1], [2, 0]),
        ("prefix16", [0] * 16, [0] * 7 + [255] + [0] * 8),
        ("range2", [2, 0], [1, 255]),
        ("match2", [0, 0], [0, 1]),
        ("any2", [0, 0], [0, 255]),
    ],
)
def test_intervals_that_are_no_rule_are_refused(desc: str, low: list[int], high: list[int]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        RuleArrays.from_intervals(
            Description.parse(desc), np.array([low], np.uint8), np.array([high], np.uint8)
        )

    assert caught.value.field == "f0"


def test_numbers_that_do_not_fit_32_bits_are_refused() -> None:
    description = Description.parse("match1")

    for name in ("priorities", "orders", "rule_ids"):
        for number in (-1, 2**32):
            with pytest.raises(InvalidArgument, match="a number from 0 to 4294967295"):
                RuleArrays.from_rules(description, [(1,)], **{name: [number]})


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="2 given for 1 rules"):
        RuleArrays.from_rules(Description.parse("match1"), [(1,)], priorities=[1, 2])
