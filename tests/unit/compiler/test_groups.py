# SPDX-License-Identifier: Apache-2.0
"""Who holds an address, as slices of groups come, change and go."""

from __future__ import annotations

from wildcard_operator.compiler.groups import GroupStore
from wildcard_operator.model.addresssets import AddressSet, Group
from wildcard_operator.model.net import parse_address

WEB, DB = (Group("shop", (("app", app), ("tier", "any"))) for app in ("web", "db"))
ADDRESS = parse_address("10.0.0.1")


def slice_of(group: Group, *addresses: str) -> AddressSet:
    return AddressSet(group, [parse_address(text) for text in addresses])


def holder(store: GroupStore) -> Group | None:
    found = store.holders.get(ADDRESS.number)
    return found.group if found is not None else None


def test_an_address_in_two_slices_of_a_group_stays_until_both_are_gone() -> None:
    store = GroupStore()
    store.set_slice("one", slice_of(WEB, "10.0.0.1", "10.0.0.2"))
    assert not store.set_slice("two", slice_of(WEB, "10.0.0.1")).moved

    assert not store.set_slice("two", None).moved
    assert holder(store) == WEB
    changes = store.set_slice("one", slice_of(WEB, "10.0.0.2"))
    assert list(changes.moved) == [ADDRESS.number]
    assert holder(store) is None


def test_an_address_that_a_slice_lists_twice_is_in_it_once() -> None:
    store = GroupStore()
    store.set_slice("one", slice_of(WEB, "10.0.0.1", "10.0.0.1"))

    assert list(store.set_slice("one", slice_of(WEB)).moved) == [ADDRESS.number]
    assert holder(store) is None


def test_a_slice_without_addresses_keeps_its_group_and_goes_like_any_other() -> None:
    store = GroupStore()
    store.set_slice("empty", slice_of(WEB))
    store.set_slice("one", slice_of(WEB, "10.0.0.1"))
    store.set_slice("one", None)

    assert [members.group for members in store.with_label("app", "web")] == [WEB]
    store.set_slice("empty", None)
    assert not store.groups()
    assert not store.with_label("app", "web")


def test_a_slice_that_changes_its_group_takes_its_addresses_along() -> None:
    store = GroupStore()
    store.set_slice("one", slice_of(WEB, "10.0.0.1"))
    store.set_slice("other", slice_of(DB, "10.0.0.3"))
    changes = store.set_slice("one", slice_of(DB, "10.0.0.1"))

    assert [members.group for members in changes.died if members.group] == [WEB]
    assert holder(store) == DB
    assert [members.group for members in store.with_label("tier", "any")] == [DB]


def test_an_address_of_two_groups_is_held_by_both_until_one_lets_it_go() -> None:
    store = GroupStore()
    store.set_slice("web", slice_of(WEB, "10.0.0.1"))
    store.set_slice("db", slice_of(DB, "10.0.0.1", "10.0.0.2"))
    (shared,) = store.shared
    assert {members.group for members in shared.of} == {WEB, DB}

    store.set_slice("web", None)
    assert holder(store) == DB
    assert not store.shared
