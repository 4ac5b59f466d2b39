# SPDX-License-Identifier: Apache-2.0
"""Reads the policy cases of `tests/cases`: objects, steps and truth tables, expanded to single probes.

`load_file(path)` gives the cases of one file, `case_files()` the files there are. The format stands in
`tests/cases/README.md`. Everything is checked while it is read: what the loader does not know raises
`CaseError`, which names the file and the place in it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.probes import Object, Probe, expand
from support.strict import CaseError, mapping, read_yaml, sequence, text, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CASES = Path(__file__).resolve().parent.parent / "cases"
KINDS = ("Node", "Namespace", "Pod", "NetworkPolicy", "WildcardFilter")
CLUSTER_SCOPED = ("Node", "Namespace", "WildcardFilter")
Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """A state of the cluster, complete, and what must hold in it."""

    name: str
    objects: tuple[Object, ...] = field(repr=False)
    probes: tuple[Probe, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Case:
    """One situation: steps in their order. `stored_only`: an API server of today refuses such objects."""

    file: str
    name: str
    criteria: tuple[int, ...]
    upstream: tuple[str, ...]
    stored_only: bool
    steps: tuple[Step, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What a runner does to go from one state to another: write `applied`, then remove `deleted` (keys)."""

    applied: tuple[Object, ...]
    deleted: tuple[Key, ...]


def case_files() -> list[Path]:
    """All files of cases, sorted; shared clusters and broken objects stand in folders below."""
    return sorted(CASES.glob("*.yaml"))


def load_file(path: Path) -> tuple[Case, ...]:
    """The cases of one file. Raises CaseError."""
    document = read_yaml(path)
    place = path.name
    top = mapping(document, place, required=("cases",), optional=("cluster", "objects"))
    base: list[Object] = []
    if "cluster" in top:
        base += read_cluster(path.parent, text(top["cluster"], f"{place}: cluster"))
    base += sequence(top.get("objects", []), f"{place}: objects")
    cases = []
    for number, entry in enumerate(sequence(top["cases"], f"{place}: cases")):
        cases.append(_case(entry, base, path.name, f"{place}: cases[{number}]"))
    names = [case.name for case in cases]
    if len(names) != len(set(names)):
        raise CaseError(f"{place}: two cases of one name: {sorted({n for n in names if names.count(n) > 1})}")
    return tuple(cases)


def read_cluster(folder: Path, name: str) -> list[Object]:
    """The objects of a shared cluster in `folder`. Raises CaseError."""
    path = folder / "clusters" / f"{name}.yaml"
    if not path.is_file():
        raise CaseError(f"{path.name}: no such cluster")
    top = mapping(read_yaml(path), path.name, required=("objects",))
    return sequence(top["objects"], f"{path.name}: objects")


def key_of(item: Mapping[str, Any], place: str = "object") -> Key:
    """Kind, namespace (empty for cluster-scoped kinds) and name of an object. Raises CaseError."""
    kind = item.get("kind")
    if kind not in KINDS:
        raise CaseError(f"{place}: kind is {kind!r}, must be one of {', '.join(KINDS)}")
    meta = item.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
        raise CaseError(f"{place}: metadata.name must be a string")
    namespace = meta.get("namespace", "")
    if (kind in CLUSTER_SCOPED) == bool(namespace):
        wanted = "no" if kind in CLUSTER_SCOPED else "a"
        raise CaseError(f"{place}: {kind} {meta['name']} must have {wanted} metadata.namespace")
    return (kind, namespace, meta["name"])


def change_between(old: Iterable[Object], new: Iterable[Object]) -> Change:
    """The difference between two states. Written in the order in which KINDS depend on each other."""
    before = {key_of(item): item for item in old}
    after = {key_of(item): item for item in new}
    applied = [item for key, item in after.items() if before.get(key) != item]
    applied.sort(key=lambda item: KINDS.index(item["kind"]))
    deleted = sorted((key for key in before if key not in after), key=lambda key: -KINDS.index(key[0]))
    return Change(applied=tuple(applied), deleted=tuple(deleted))


def _case(entry: Any, base: Sequence[Object], file: str, place: str) -> Case:
    top = mapping(
        entry,
        place,
        required=("name",),
        optional=("criteria", "upstream", "storedOnly", "objects", "steps", "truth"),
    )
    name = text(top["name"], f"{place}.name")
    place = f"{place} ({name})"
    if ("steps" in top) == ("truth" in top):
        raise CaseError(f"{place}: needs either steps or truth")
    own = sequence(top.get("objects", []), f"{place}.objects")
    state = _state([*base, *own], place)
    entries = sequence(top.get("steps", [{"name": name, "truth": top.get("truth")}]), f"{place}.steps")
    steps = []
    for number, step in enumerate(entries):
        at = f"{place}.steps[{number}]"
        told = mapping(step, at, required=("name", "truth"), optional=("apply", "patch", "delete"))
        state = _next_state(state, told, at)
        objects = tuple(state.values())
        probes = tuple(expand(told["truth"], objects, at))
        steps.append(Step(name=text(told["name"], f"{at}.name"), objects=objects, probes=probes))
    return Case(
        file=file,
        name=name,
        criteria=tuple(whole(c, f"{place}.criteria") for c in sequence(top.get("criteria", []), place)),
        upstream=tuple(text(u, f"{place}.upstream") for u in sequence(top.get("upstream", []), place)),
        stored_only=bool(top.get("storedOnly", False)),
        steps=tuple(steps),
    )


def _state(objects: Sequence[Object], place: str) -> dict[Key, Object]:
    state: dict[Key, Object] = {}
    for item in objects:
        key = key_of(mapping(item, place), place)
        if key in state:
            raise CaseError(f"{place}: two objects {'/'.join(part for part in key if part)}")
        state[key] = item
    return state


def _next_state(state: dict[Key, Object], step: Mapping[str, Any], place: str) -> dict[Key, Object]:
    following = dict(state)
    for item in sequence(step.get("delete", []), f"{place}.delete"):
        key = key_of(item, f"{place}.delete")
        if following.pop(key, None) is None:
            raise CaseError(f"{place}.delete: no {'/'.join(part for part in key if part)} to delete")
    for item in sequence(step.get("apply", []), f"{place}.apply"):
        following[key_of(item, f"{place}.apply")] = item
    for item in sequence(step.get("patch", []), f"{place}.patch"):
        key = key_of(item, f"{place}.patch")
        if key not in following:
            raise CaseError(f"{place}.patch: no {'/'.join(part for part in key if part)} to patch")
        following[key] = _merged(following[key], item)
    return following


def _merged(old: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386): null removes, mappings merge, all else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result
