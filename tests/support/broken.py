# SPDX-License-Identifier: Apache-2.0
"""Reads `tests/cases/broken`: objects that must be refused, made from valid ones by single edits.

`load_broken(path)` gives one file's refusals. Each holds the healthy objects beside the broken one, what must
go on holding for them, and what the refusal must name. The format stands in `tests/cases/README.md`.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.cases import CASES, Key, key_of, read_cluster
from support.probes import Object, Probe, expand
from support.strict import CaseError, as_list, mapping, read_yaml, sequence, text, whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Refusal:
    """One broken object among healthy ones, and what must be said of it.

    `base` is the valid object that `broken` was made from, or None where only the set of objects is wrong
    (two of one name). `fields`: the refusal names one of these paths. `mentions`: words that its text
    (object, path and sentence) must contain, because they say what would be right.
    """

    file: str
    name: str
    key: Key
    broken: tuple[Any, ...] = field(repr=False)
    base: Object | None = field(repr=False)
    fields: tuple[str, ...]
    mentions: tuple[str, ...]
    healthy: tuple[Object, ...] = field(repr=False)
    probes: tuple[Probe, ...] = field(repr=False)


def broken_files() -> list[Path]:
    """All files of broken objects, sorted."""
    return sorted((CASES / "broken").glob("*.yaml"))


def load_broken(path: Path) -> tuple[Refusal, ...]:
    """The refusals of one file. Raises CaseError."""
    place = path.name
    top = mapping(read_yaml(path), place, required=("cluster", "truth", "groups"), optional=("healthy",))
    healthy = (*read_cluster(CASES, text(top["cluster"], place)), *sequence(top.get("healthy", []), place))
    probes = tuple(expand(top["truth"], healthy, place))
    refusals = [
        _refusal(entry, group, place, healthy, probes)
        for group in sequence(top["groups"], f"{place}: groups")
        for entry in sequence(mapping(group, place)["refused"], f"{place}: refused")
    ]
    names = [refusal.name for refusal in refusals]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CaseError(f"{place}: two refusals of one name: {twice}")
    return tuple(refusals)


def _refusal(
    entry: Any, group: Any, file: str, healthy: tuple[Object, ...], probes: tuple[Probe, ...]
) -> Refusal:
    told = mapping(
        entry,
        file,
        required=("name", "field"),
        optional=("set", "remove", "repeat", "objects", "mentions"),
    )
    place = f"{file}: {text(told['name'], file)}"
    known = mapping(group, file, required=("refused",), optional=("base",))
    base: Object | None = None
    if "objects" in told:
        broken = tuple(sequence(told["objects"], place))
    elif "base" in known:
        base = known["base"]
        broken = (_edited(known["base"], told, place),)
    else:
        raise CaseError(f"{place}: needs objects, or a base in its group to edit")
    return Refusal(
        file=file,
        name=told["name"],
        key=key_of(base or broken[0], place),
        broken=broken,
        base=base,
        fields=tuple(text(path, place) for path in as_list(told["field"])),
        mentions=tuple(text(word, place) for word in as_list(told.get("mentions"))),
        healthy=healthy,
        probes=probes,
    )


def _edited(base: Object, told: Mapping[str, Any], place: str) -> Object:
    edited = copy.deepcopy(base)
    for path, value in mapping(told.get("set", {}), place).items():
        holder, last = _holder(edited, path, place)
        holder[last] = value
    for path in as_list(told.get("remove")):
        holder, last = _holder(edited, path, place)
        del holder[last]
    for path, times in mapping(told.get("repeat", {}), place).items():
        holder, last = _holder(edited, path, place)
        holder[last] = [_copy_number(holder[last][0], number) for number in range(whole(times, place))]
    if edited == base:
        raise CaseError(f"{place}: changes nothing")
    return edited


def _copy_number(item: Any, number: int) -> Any:
    """A copy; a named item gets a name of its own, so that the number of items is all that is wrong."""
    named = isinstance(item, dict) and "name" in item
    return {**item, "name": f"{item['name']}-{number}"} if named else copy.deepcopy(item)


def _holder(item: Any, path: str, place: str) -> tuple[Any, str | int]:
    """What holds the end of a path such as `spec.rules[0].action`, and that end."""
    steps: list[str | int] = [
        int(part[1:-1]) if part.startswith("[") else part for part in re.findall(r"\[\d+\]|[^.\[\]]+", path)
    ]
    for step in steps[:-1]:
        try:
            item = item[step]
        except (KeyError, IndexError, TypeError) as error:
            raise CaseError(f"{place}: the object has no {path}") from error
    return item, steps[-1]
