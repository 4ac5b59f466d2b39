# SPDX-License-Identifier: Apache-2.0
"""Peers get the classes that their selectors and named ports ask for, however many change at once."""

from __future__ import annotations

from itertools import permutations
from typing import Final

import pytest

from wildcard_operator.compiler.peers import PeerTable
from wildcard_operator.model.addresssets import AddressSet, Group, NamedPort
from wildcard_operator.model.net import TCP, parse_address
from wildcard_operator.model.rulesets import Namespaces, Pods

SHOP: Final = Pods(Namespaces("shop"))
NUMBERS: Final = (53, 53, 53, 54, 54, 55)


@pytest.mark.parametrize("numbers", sorted(set(permutations(NUMBERS))))
def test_a_name_that_divides_a_class_in_many_leaves_each_pod_its_own_number(numbers: tuple[int, ...]) -> None:
    table = PeerTable()
    table.use(SHOP)
    addresses = [parse_address(f"10.0.0.{place}") for place in range(len(numbers))]
    for place, number in enumerate(numbers):
        group = Group("shop", (("app", str(place)),), (NamedPort("dns", TCP, number),))
        table.set_slice(f"slice-{place}", AddressSet(group, (addresses[place],)))

    table.use_name(SHOP, "dns", TCP)
    table.refresh()

    prefixes = table.named(SHOP, "dns", TCP)
    for address, number in zip(addresses, numbers, strict=True):
        klass = table.class_of(address.number)
        assert [n for n, (value, length) in prefixes if (klass ^ value) >> (32 - length) == 0] == [number]
    assert len(table.classes()) == len(set(numbers))
