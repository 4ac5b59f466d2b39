# SPDX-License-Identifier: Apache-2.0
"""At most one of two replicas leads, and one of them does."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from support.fakeapi import FakeApi
from support.waiting import wait_until
from wildcard_operator.kube.api import LEASES, UNREACHABLE, ApiError
from wildcard_operator.kube.lease import Election, LeaseTimes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUICK = LeaseTimes(duration=1, trust=0.6, retry=0.05)
LASTING = LeaseTimes(duration=60, trust=50, retry=0.05)
"""Long enough for a thread that a busy machine holds up."""


def election(api: FakeApi, identity: str, told: list[bool], times: LeaseTimes) -> Election:
    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[FakeApi]:
        yield api

    return Election(connect, "operator", "leader", identity, told.append, times)


def test_the_second_takes_over_when_the_first_gives_up() -> None:
    api, told_first, told_second = FakeApi(), [], []
    first = election(api, "first", told_first, LASTING)
    second = election(api, "second", told_second, LASTING)
    first.start()
    wait_until(first.held, 20, "the first leads")
    second.start()
    try:
        wait_until(lambda: len(api.requests) > 20, 20, "both went on asking")
        assert not second.held()
        first.stop()
        assert not first.held()
        wait_until(second.held, 20, "the second leads")
    finally:
        second.stop()

    assert told_first == [True, False]
    assert told_second == [True, False]
    (lease,) = api.items(LEASES.path())
    assert lease["spec"]["leaseTransitions"] == 1


def test_a_leader_that_cannot_renew_stops_before_another_starts() -> None:
    api, told = FakeApi(), []
    first, second = election(api, "first", told, QUICK), election(api, "second", [], QUICK)
    first.start()
    try:
        wait_until(first.held, 20, "the first leads")
        api.fail_next(ApiError(UNREACHABLE, "Unreachable", "refused"), times=10_000)
        wait_until(lambda: not first.held(), 20, "its trust runs out", every=0.005)
        wait_until(lambda: told == [True, False], 20, "it is told so")
        api.heal()
        second.start()
        wait_until(lambda: first.held() or second.held(), 20, "somebody leads again")
        assert not (first.held() and second.held())
    finally:
        first.stop()
        second.stop()
