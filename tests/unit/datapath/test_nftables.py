# SPDX-License-Identifier: Apache-2.0
"""The nftables tables: there when needed, put back when somebody takes them away, else left alone."""

from __future__ import annotations

import pytest

from wildcard_operator.datapath.nftables import Tables


class FakeNftables:
    """Knows which of our tables are there; scripts are taken apart as far as tests need."""

    def __init__(self) -> None:
        self.tables: dict[str, str] = {}
        self.loads = 0

    def fileno(self) -> int:
        return -1

    def drain(self) -> None:
        pass

    def load(self, script: str) -> None:
        self.loads += 1
        for family in ("inet", "bridge"):
            if f"table {family}" in script:
                self.tables.pop(family, None)
                if "chain" in script:
                    self.tables[family] = script

    def has_table(self, family: str) -> bool:
        return family in self.tables

    def close(self) -> None:
        pass


@pytest.fixture
def nftables() -> FakeNftables:
    return FakeNftables()


def test_connections_are_tracked_and_no_bridge_table_is_made_without_ports(nftables: FakeNftables) -> None:
    Tables(nftables).reconcile([], disturbed=False)

    assert set(nftables.tables) == {"inet"}
    assert "ct state" in nftables.tables["inet"]


def test_tagged_frames_are_dropped_at_the_ports_of_pods(nftables: FakeNftables) -> None:
    tables = Tables(nftables)
    tables.reconcile([9, 7], disturbed=False)
    assert "{ 7, 9 }" in nftables.tables["bridge"]

    tables.reconcile([9], disturbed=False)
    assert "{ 9 }" in nftables.tables["bridge"]

    tables.reconcile([], disturbed=False)
    assert set(nftables.tables) == {"inet"}


def test_nothing_is_loaded_when_nothing_changed(nftables: FakeNftables) -> None:
    tables = Tables(nftables)
    tables.reconcile([7], disturbed=False)
    before = nftables.loads
    tables.reconcile([7], disturbed=False)
    tables.reconcile([7], disturbed=True)

    assert nftables.loads == before


@pytest.mark.parametrize("lost", [["inet"], ["bridge"], ["inet", "bridge"]])
def test_a_table_that_somebody_removed_is_put_back(nftables: FakeNftables, lost: list[str]) -> None:
    tables = Tables(nftables)
    tables.reconcile([7], disturbed=False)
    for family in lost:
        del nftables.tables[family]
    tables.reconcile([7], disturbed=True)

    assert set(nftables.tables) == {"inet", "bridge"}
