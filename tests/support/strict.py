# SPDX-License-Identifier: Apache-2.0
"""Strict reading of case files: YAML without double keys, checks of shape that say where they failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class CaseError(ValueError):
    """A case file is not in the format; the message names the file and the place."""


def read_yaml(path: Path) -> Any:
    """One YAML document that means the same to every reader of YAML. Raises CaseError."""
    with path.open(encoding="utf-8") as stream:
        loader = yaml.CSafeLoader(stream)
        try:
            root = loader.get_single_node()
            if root is None:
                raise CaseError(f"{path.name}: is empty")
            _refuse_ambiguity(root, path.name)
            return loader.construct_document(root)
        except yaml.YAMLError as error:
            raise CaseError(f"{path.name}: {error}") from error
        finally:
            loader.dispose()


def _refuse_ambiguity(node: yaml.Node, place: str) -> None:
    """Double keys (PyYAML keeps the last), and plain words such as Off or a date: no strings to YAML."""
    at = f"{place}: line {node.start_mark.line + 1}"
    if isinstance(node, yaml.ScalarNode) and node.tag.rpartition(":")[2] not in (
        "str",
        "int",
        "float",
        "null",
    ):
        if node.value not in ("true", "false"):
            raise CaseError(f"{at}: quote {node.value!r}, or write true or false")
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_ambiguity(item, place)
    elif isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        for key, value in node.value:
            if keys.count(key.value) > 1:
                raise CaseError(f"{at}: {key.value!r} stands twice")
            _refuse_ambiguity(value, place)


def as_list(entry: Any) -> list[Any]:
    if entry is None:
        return []
    return entry if isinstance(entry, list) else [entry]


def sequence(entry: Any, place: str) -> list[Any]:
    if not isinstance(entry, list):
        raise CaseError(f"{place}: must be a list")
    return entry


def mapping(
    entry: Any, place: str, required: Sequence[str] = (), optional: Sequence[str] = ()
) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise CaseError(f"{place}: must be a mapping")
    missing = [name for name in required if name not in entry]
    if missing:
        raise CaseError(f"{place}: lacks {', '.join(missing)}")
    unknown = [str(name) for name in entry if name not in (*required, *optional)]
    if unknown and (required or optional):
        raise CaseError(f"{place}: does not know {', '.join(unknown)}")
    return entry


def text(entry: Any, place: str) -> str:
    if not isinstance(entry, str) or not entry:
        raise CaseError(f"{place}: must be a string")
    return entry


def whole(entry: Any, place: str) -> int:
    if type(entry) is not int or entry < 0:
        raise CaseError(f"{place}: must be a whole number, not {entry!r}")
    return entry
