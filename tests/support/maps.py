# SPDX-License-Identifier: Apache-2.0
"""Wildcard maps in the kernel for tests, compared with the brute force."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from wildcard_operator.wildcardmap import Algorithm, Description, Kind, Pool, RuleArrays, WildcardMap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from support.brute import Entry


def pool_for(description: Description) -> Pool:
    """Tables of static Tuple Merge for any description: all, half and none of each prefix field's bits."""
    prefixes = [field for field in description.fields if field.kind is Kind.PREFIX]
    return Pool.of_list(*((field.bits, field.bits // 2, 0) for field in prefixes))


def arrays_of(description: Description, entries: Sequence[Entry]) -> RuleArrays:
    """The entries with their index as the rule id, and as the value in 4 bytes."""
    return RuleArrays.from_rules(
        description,
        [entry.rule for entry in entries],
        priorities=[entry.priority for entry in entries],
        orders=[entry.order for entry in entries],
        rule_ids=range(len(entries)),
        values=[index.to_bytes(4, "little") for index in range(len(entries))],
    )


@contextmanager
def loaded(
    description: Description, entries: Sequence[Entry], algorithm: Algorithm = Algorithm.AUTO, **options: Any
) -> Iterator[WildcardMap]:
    """A map with these entries, their index being the rule id and the value."""
    if algorithm is Algorithm.STATIC_TUPLE_MERGE:
        options.setdefault("pool", pool_for(description))
    options.setdefault("max_entries", max(1, len(entries)))
    with WildcardMap.create(description, value_size=4, algorithm=algorithm, **options) as made:
        made.load(arrays_of(description, entries))
        yield made


def winners(target: WildcardMap, packets: npt.NDArray[np.uint8], floor: int = 0) -> npt.NDArray[np.int64]:
    """The rule id that wins each packet in the kernel, or -1."""
    answers = target.match_many(packets, floor=floor)
    return np.where(answers["row"] == 0, -1, answers["id"].astype(np.int64))
