# SPDX-License-Identifier: Apache-2.0
"""Attributes of netlink messages: what is written can be read, and what is cut off is left out."""

from __future__ import annotations

import pytest

from wildcard_operator.datapath.rtnetlink import attribute, attributes, nested, number


def test_attributes_are_padded_and_found_behind_a_header() -> None:
    data = b"head" + attribute(1, b"abc") + attribute(2, b"") + attribute(3, b"12345678")

    assert len(data) % 4 == 0
    assert attributes(data, 4) == {1: b"abc", 2: b"", 3: b"12345678"}


def test_attributes_within_an_attribute_are_found_in_its_value() -> None:
    found = attributes(nested(18, [attribute(1, b"bridge\0"), nested(2, [attribute(36, b"\1")])]))

    inner = attributes(found[18])
    assert inner[1] == b"bridge\0"
    assert number(attributes(inner[2]), 36) == 1
    assert number(attributes(inner[2]), 37) is None


@pytest.mark.parametrize("tail", [b"", b"\x08", b"\x03\x00\x05\x00", b"\x00\x00\x00\x00"])
def test_what_is_no_attribute_ends_the_list(tail: bytes) -> None:
    assert attributes(attribute(1, b"abcd") + tail) == {1: b"abcd"}
