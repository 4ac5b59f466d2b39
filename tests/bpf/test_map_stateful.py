# SPDX-License-Identifier: Apache-2.0
"""Updates, deletions, batches, loads and reopening in any order leave what a dictionary would hold."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.bpffs import mounted_bpffs
from support.brute import BruteForce, Entry, spans
from support.map_strategies import descriptions, make_entries, make_packets
from support.maps import pool_for
from wildcard_operator.wildcardmap import (
    Algorithm,
    EntryExists,
    EntryNotFound,
    MapFull,
    RuleArrays,
    UpdateFlag,
    WildcardMap,
)

CAPACITY = 60
Name = tuple[Any, ...]


class AbandonedError(Exception):
    """What ends a batch that must not be committed."""


class MapMachine(RuleBasedStateMachine):
    """A pinned map beside a model: name -> (entry, value, rule id)."""

    def __init__(self) -> None:
        super().__init__()
        self._mount = mounted_bpffs()
        self.pin = self._mount.__enter__() / "map"
        self.model: dict[Name, tuple[Entry, bytes, int]] = {}
        self.ids = itertools.count()
        self.map: WildcardMap | None = None

    @initialize(
        description=descriptions(max_fields=5),
        algorithm=st.sampled_from(list(Algorithm)),
        seed=st.integers(0, 2**32 - 1),
    )
    def create(self, description: Any, algorithm: Algorithm, seed: int) -> None:
        self.description = description
        pool = pool_for(description) if algorithm is Algorithm.STATIC_TUPLE_MERGE else None
        self.map = WildcardMap.create(
            description,
            max_entries=CAPACITY,
            value_size=4,
            algorithm=algorithm,
            pool=pool,
            max_rule_ids=1 << 16,
            pin=self.pin,
        )
        self.rng = np.random.default_rng(seed)
        self.pool = make_entries(self.rng, description, 2 * CAPACITY, priorities=3)

    def name(self, entry: Entry) -> Name:
        return spans(self.description, entry.rule), entry.priority, entry.order

    def pick(self) -> Entry:
        return self.pool[self.rng.integers(len(self.pool))]

    @precondition(lambda self: self.map is not None and self.pool)
    @rule(flag=st.sampled_from(list(UpdateFlag)))
    def update(self, flag: UpdateFlag) -> None:
        entry, rule_id = self.pick(), next(self.ids)
        value = rule_id.to_bytes(4, "little")
        exists = self.name(entry) in self.model
        expected = None
        if flag is UpdateFlag.NOEXIST and exists:
            expected = EntryExists
        elif flag is UpdateFlag.EXIST and not exists:
            expected = EntryNotFound
        elif not exists and len(self.model) == CAPACITY:
            expected = MapFull
        if expected is not None:
            with pytest.raises(expected):
                self._update(entry, value, rule_id, flag)
        else:
            self._update(entry, value, rule_id, flag)
            self.model[self.name(entry)] = (entry, value, rule_id)

    def _update(self, entry: Entry, value: bytes, rule_id: int, flag: UpdateFlag) -> None:
        self.map.update(
            entry.rule, value, priority=entry.priority, order=entry.order, rule_id=rule_id, flags=flag
        )

    @precondition(lambda self: self.map is not None and self.pool)
    @rule()
    def delete(self) -> None:
        entry = self.pick()
        if self.name(entry) in self.model:
            self.map.delete(entry.rule, priority=entry.priority, order=entry.order)
            del self.model[self.name(entry)]
        else:
            with pytest.raises(EntryNotFound):
                self.map.delete(entry.rule, priority=entry.priority, order=entry.order)

    @precondition(lambda self: self.map is not None and self.pool)
    @rule(count=st.integers(0, 12), fails=st.booleans())
    def batch(self, count: int, fails: bool) -> None:
        staged = dict(self.model)
        with contextlib.suppress(AbandonedError), self.map.batch() as changes:
            for _ in range(count):
                entry = self.pick()
                if self.name(entry) in staged and self.rng.random() < 0.5:
                    changes.delete(entry.rule, priority=entry.priority, order=entry.order)
                    del staged[self.name(entry)]
                elif self.name(entry) in staged or len(staged) < CAPACITY:
                    rule_id = next(self.ids)
                    value = rule_id.to_bytes(4, "little")
                    changes.update(
                        entry.rule, value, priority=entry.priority, order=entry.order, rule_id=rule_id
                    )
                    staged[self.name(entry)] = (entry, value, rule_id)
            if fails:
                raise AbandonedError
        if not fails:
            self.model = staged

    @precondition(lambda self: self.map is not None)
    @rule(count=st.integers(0, CAPACITY))
    def load(self, count: int) -> None:
        entries = self.pool[:count]
        ids = [next(self.ids) for _ in entries]
        values = [rule_id.to_bytes(4, "little") for rule_id in ids]
        arrays = RuleArrays.from_rules(
            self.description,
            [entry.rule for entry in entries],
            priorities=[entry.priority for entry in entries],
            orders=[entry.order for entry in entries],
            rule_ids=ids,
            values=values,
        )
        self.map.load(arrays)
        self.model = {
            self.name(entry): (entry, value, rule_id)
            for entry, value, rule_id in zip(entries, values, ids, strict=True)
        }

    @precondition(lambda self: self.map is not None)
    @rule()
    def reopen(self) -> None:
        self.map.close()
        self.map = WildcardMap.open(self.pin, expect=self.description)

    @precondition(lambda self: self.map is not None)
    @invariant()
    def holds_what_the_model_holds(self) -> None:
        held = list(self.model.values())
        reference = BruteForce(self.description, [entry for entry, _, _ in held])
        in_order = [held[at] for at in reference.ranking]
        assert len(self.map) == len(held)
        assert [(entry.value, entry.rule_id) for entry in self.map] == [
            (value, rule_id) for _, value, rule_id in in_order
        ]
        packets = make_packets(self.rng, self.description, [entry for entry, _, _ in held], 64)
        answers = self.map.match_many(packets)
        expected = [held[at][2] if at >= 0 else -1 for at in reference.winners(packets)]
        assert np.where(answers["row"] == 0, -1, answers["id"].astype(np.int64)).tolist() == expected
        for entry, value, rule_id in held[:3]:
            found = self.map.get(entry.rule, priority=entry.priority, order=entry.order)
            assert found is not None
            assert (found.value, found.rule_id) == (value, rule_id)

    def teardown(self) -> None:
        if self.map is not None:
            self.map.close()
        self._mount.__exit__(None, None, None)


TestMap = MapMachine.TestCase
TestMap.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
