# SPDX-License-Identifier: Apache-2.0
"""Pods become few, small AddressSets, and each start or end of a pod is one write."""

from __future__ import annotations

from dataclasses import replace

from wildcard_operator.compiler.address_groups import AddressGroups
from wildcard_operator.model.addresssets import AddressSet, address_set_from_dict
from wildcard_operator.model.net import parse_address
from wildcard_operator.model.objects import Node, Pod


def pod(number: int, app: str = "web", **changes: object) -> Pod:
    labels = (("app", app), ("pod-template-hash", f"hash-{number}"))
    made = Pod("shop", f"pod-{number}", labels=labels, addresses=(parse_address(f"10.0.0.{number}"),))
    return replace(made, **changes)  # type: ignore[arg-type]  # the fields that a test names


def written(groups: AddressGroups) -> dict[str, AddressSet]:
    return {name: found for name, found in groups.changes().items() if found is not None}


def addresses(sets: dict[str, AddressSet]) -> set[str]:
    return {address.text for one in sets.values() for address in one.addresses}


def test_pods_that_differ_in_volatile_labels_alone_share_an_address_set() -> None:
    groups = AddressGroups()
    for number in (1, 2):
        groups.set_pod(pod(number))

    (only,) = written(groups).values()
    assert only.group.labels == (("app", "web"),)
    assert len(only.addresses) == 2


def test_a_pod_that_starts_or_ends_is_one_write() -> None:
    groups = AddressGroups(slice_size=4)
    for number in range(1, 100):
        groups.set_pod(pod(number))
    groups.changes()

    groups.set_pod(pod(100))
    assert len(groups.changes()) == 1
    groups.remove_pod("shop", "pod-50")
    assert len(groups.changes()) == 1


def test_a_relabelled_pod_is_written_in_its_new_place_before_its_old_one_goes() -> None:
    groups = AddressGroups()
    for number in (1, 2):
        groups.set_pod(pod(number))
    groups.changes()
    groups.set_pod(pod(1, app="db"))

    first, second = groups.changes().values()
    assert first is not None
    assert second is not None
    assert first.group.labels == (("app", "db"),)
    assert [address.text for address in second.addresses] == ["10.0.0.2"]


def test_ended_and_host_network_pods_and_addresses_of_nodes_are_left_out() -> None:
    groups = AddressGroups()
    groups.set_node("node-1", Node("node-1", addresses=(parse_address("10.0.0.3"),)))
    groups.set_pod(pod(1, terminal=True))
    groups.set_pod(pod(2, host_network=True))
    groups.set_pod(pod(3))
    groups.set_pod(pod(4))
    assert addresses(written(groups)) == {"10.0.0.4"}

    groups.set_node("node-1", None)
    assert addresses(written(groups)) == {"10.0.0.3", "10.0.0.4"}


def test_an_address_of_two_live_pods_is_the_newer_ones_until_that_ends() -> None:
    groups = AddressGroups()
    groups.set_pod(pod(1, created="2026-01-01T00:00:00Z"))
    heir = pod(1, app="db", name="heir", created="2026-01-02T00:00:00Z")
    groups.set_pod(heir)
    (only,) = written(groups).values()
    assert only.group.labels == (("app", "db"),)

    groups.set_pod(replace(heir, terminal=True))
    changes = groups.changes()
    assert [one and one.group.labels for one in changes.values()] == [(("app", "web"),), None]


def test_a_restart_with_nothing_changed_writes_nothing() -> None:
    before = AddressGroups(slice_size=2)
    for number in (3, 1, 2, 5, 4):
        before.set_pod(pod(number))
    before.remove_pod("shop", "pod-1")
    published = written(before)

    after = AddressGroups(slice_size=2)
    for name, one in published.items():
        after.adopt(name, address_set_from_dict(name, one.to_dict()))
    for number in (2, 3, 4, 5):
        after.set_pod(pod(number))
    assert after.changes() == {}


def test_what_is_left_over_from_before_a_restart_is_deleted() -> None:
    before = AddressGroups()
    before.set_pod(pod(1))
    ((name, published),) = written(before).items()

    after = AddressGroups()
    after.adopt(name, published)
    assert after.changes() == {name: None}


def test_a_label_that_splits_pods_into_groups_of_one_is_named() -> None:
    groups = AddressGroups()
    for number in range(1, 6):
        groups.set_pod(pod(number, labels=(("app", "web"), ("request-id", str(number)))))

    assert groups.splitting_labels(limit=4) == {"request-id": 5}
    assert groups.splitting_labels(limit=5) == {}
