# SPDX-License-Identifier: Apache-2.0
"""The kernel answers what the brute force answers, for any description, rules, packets and floors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.brute import BruteForce
from support.map_strategies import Case, cases
from support.maps import loaded, winners
from wildcard_operator.wildcardmap import Algorithm

# 4 algorithms x 20 examples x 256 packets on CI; 4 x 250 x 1,024 in the long run: a million packets, and each
# once more for every floor tried.
QUICK = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))

every_algorithm = pytest.mark.parametrize("algorithm", list(Algorithm))


def check(case: Case, algorithm: Algorithm, chosen: list[int]) -> None:
    """Compare the total order, all answers, and the answers behind some floors."""
    reference = BruteForce(case.description, case.entries)
    with loaded(case.description, case.entries, algorithm) as target:
        in_order = list(target)
        assert [entry.rule_id for entry in in_order] == reference.ranking
        np.testing.assert_array_equal(winners(target, case.packets), reference.winners(case.packets))
        for rank in {rank % len(in_order) for rank in chosen} if in_order else set():
            at = in_order[rank].place
            for floor, first in ((at, rank), (at + 1, rank + 1)):
                np.testing.assert_array_equal(
                    winners(target, case.packets, floor), reference.winners(case.packets, first)
                )
        for priority in {entry.priority for entry in in_order}:
            first = sum(entry.priority < priority for entry in in_order)
            np.testing.assert_array_equal(
                winners(target, case.packets, priority << 32), reference.winners(case.packets, first)
            )


@every_algorithm
@given(case=cases(), chosen=st.lists(st.integers(0, 59), max_size=2))
@QUICK
def test_the_kernel_answers_as_brute_force_does(algorithm: Algorithm, case: Case, chosen: list[int]) -> None:
    check(case, algorithm, chosen)


@pytest.mark.long
@pytest.mark.timeout(3600)
@every_algorithm
@given(case=cases(max_rules=300, packets=1024), chosen=st.lists(st.integers(0, 299), max_size=3))
@LONG
def test_the_kernel_answers_as_brute_force_does_for_a_million_packets(
    algorithm: Algorithm, case: Case, chosen: list[int]
) -> None:
    check(case, algorithm, chosen)
