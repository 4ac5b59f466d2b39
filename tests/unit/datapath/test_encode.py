# SPDX-License-Identifier: Apache-2.0
"""Tables as the kernel's rows and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wildcard_operator.datapath import encode
from wildcard_operator.datapath.maps import key_description
from wildcard_operator.model.entries import POD_CLASS_BIT, AddressRow, Entry, InterfaceScopes
from wildcard_operator.model.net import ADDRESS_BITS, Action, Address, Prefix, parse_address

KEYS = {4: "rule_v4", 6: "rule_v6"}


@st.composite
def prefixes(draw: st.DrawFn, bits: int) -> tuple[int, int]:
    length = draw(st.integers(0, bits))
    value = draw(st.integers(0, (1 << bits) - 1))
    return value >> (bits - length) << (bits - length), length


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int]:
    low, high = sorted((draw(st.integers(0, 65535)), draw(st.integers(0, 65535))))
    return low, high


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    family = draw(st.sampled_from([4, 6]))
    bits = ADDRESS_BITS[family]
    peer, saddr, daddr = draw(prefixes(32)), draw(prefixes(bits)), draw(prefixes(bits))
    sport, dport = draw(ranges()), draw(ranges())
    return Entry(
        family, draw(st.integers(1, 2**32 - 1)), *peer, *saddr, *daddr, *sport, *dport,
        draw(st.one_of(st.none(), st.integers(0, 255))), draw(st.integers(0, 255)), draw(st.integers(0, 255)),
        draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from(list(Action))),
        draw(st.integers(1, 65535)), draw(st.booleans()),
    )  # fmt: skip


@settings(deadline=None)
@given(entries())
def test_an_entry_comes_back_as_it_was_written(entry: Entry) -> None:
    arrays = encode.rule_arrays(key_description(KEYS[entry.family]), [entry])

    assert list(encode.entries_of(entry.family, arrays)) == [entry]


def test_families_cannot_be_confused() -> None:
    mapped = encode.address_key(parse_address("10.0.0.1"))

    assert mapped == bytes(10) + b"\xff\xff\x0a\x00\x00\x01"
    assert encode.address_of_key(mapped) == parse_address("10.0.0.1")
    assert encode.address_of_key(encode.address_key(parse_address("::1"))) == parse_address("::1")


def test_a_range_stands_over_mapped_addresses() -> None:
    assert encode.range_key(Prefix(4, 10 << 24, 8)) == (encode.address_key(Address(4, 10 << 24)), 104)
    assert encode.range_key(Prefix(6, 0xFD << 120, 8))[1] == 8


def test_scopes_and_classes_are_in_network_order() -> None:
    row = AddressRow(POD_CLASS_BIT | 5, 3, 0x01020304, 6, 7, 8)
    value = encode.endpoint_value(row, node=True)

    assert b"\x01\x02\x03\x04" in value
    assert encode.describe_endpoint(value) == {
        "peer_class": POD_CLASS_BIT | 5,
        "pod": 3,
        "policy_ingress": 0x01020304,
        "policy_egress": 6,
        "filter_ingress": 7,
        "filter_egress": 8,
        "node": 1,
    }


@pytest.mark.parametrize("scopes", [None, InterfaceScopes("eth0", 1, 2)])
def test_an_interface_without_pod_says_so(scopes: InterfaceScopes | None) -> None:
    value = encode.interface_value({}, scopes)

    assert bool(np.frombuffer(value, np.uint8).any()) == (scopes is not None)


def test_an_interface_tells_the_addresses_whose_rows_are_its_pods() -> None:
    row = AddressRow(5, 1, 2, 3, 4, 5)
    v4, v6 = parse_address("10.0.0.1"), parse_address("fd00::1")

    assert v6.value.to_bytes(16) in encode.interface_value({v4: row, v6: row}, None)
    assert v6.value.to_bytes(16) not in encode.interface_value(
        {v4: row, v6: row._replace(peer_class=6)}, None
    )
