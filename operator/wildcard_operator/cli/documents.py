# SPDX-License-Identifier: Apache-2.0
"""Reads YAML and JSON documents for commands that take manifests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import yaml

from wildcard_operator.compiler.manifests import flatten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})

MANIFESTS: Final = click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILES...",
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
)


class InputError(click.ClickException):
    """Input that can't be used: exit status 2, as for a wrong option."""

    exit_code = 2


def read_objects(paths: Iterable[Path]) -> list[Any]:
    """The objects of files, of the files of folders, or of standard input (`-`)."""
    return [item for path in paths for file in _files(path) for item in read_documents(file)]


def read_documents(path: Path) -> Iterator[Any]:
    """The objects of one file: its documents, the items of a List. `InputError` names the file and the
    place."""
    try:
        text = sys.stdin.buffer.read() if path == Path("-") else path.read_bytes()
        for document in yaml.load_all(text, _LOADER):
            yield from flatten(document)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise InputError(f"{path}{line}: it is neither YAML nor JSON: {error.problem}") from error
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: it can't be read: {error}") from error


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES)
    return [path]
