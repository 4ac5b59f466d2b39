#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/crds.md, the reference of every field, from crds/*.yaml and crds/examples/*.yaml.

`crd_docs.py` writes the file; `crd_docs.py --check` says whether it is as it should be.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs/crds.md"
ORDER = ("WildcardFilter", "NodeState", "RuleSet", "AddressSet")
HEAD = """# Custom resources

<!-- Generated from crds/ by hack/crd_docs.py. -->

People write `WildcardFilter`. The others are internal: the operator and the agents write them, and they are
described for those who look into a cluster. `kubectl explain` shows the same text.
"""


def document() -> str:
    """The whole file."""
    definitions = [
        yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "crds").glob("*.yaml")
    ]
    definitions.sort(key=lambda one: ORDER.index(one["spec"]["names"]["kind"]))
    return "\n".join([HEAD, *("\n".join(kind(one)) for one in definitions)])


def kind(definition: dict[str, Any]) -> Iterator[str]:
    """The chapter of one kind."""
    spec, version = definition["spec"], definition["spec"]["versions"][0]
    names, schema = spec["names"], version["schema"]["openAPIV3Schema"]
    yield f"## {names['kind']}\n"
    yield f"{schema['description']}\n"
    short = ", ".join(f"`{name}`" for name in names["shortNames"])
    yield f"`{spec['group']}/{version['name']}`, {spec['scope'].lower()}, short {short}.\n"
    yield "| field | type | |"
    yield "|---|---|---|"
    for part in ("spec", "status"):
        if part in schema["properties"]:
            yield from rows(part, schema["properties"][part], required=part in schema.get("required", []))
    rules = sorted(set(messages(schema)))
    if rules:
        yield "\nWhat admission refuses, beside what the types and bounds above say:\n"
        yield from (f"- {rule}" for rule in rules)
    example = (ROOT / f"crds/examples/{names['kind'].lower()}.yaml").read_text(encoding="utf-8")
    yield f"\n```yaml\n{example.partition(chr(10))[2].strip()}\n```\n"


def rows(path: str, schema: dict[str, Any], *, required: bool) -> Iterator[str]:
    """A row for a field, and those of the fields in it."""
    items = schema.get("items")
    text = schema.get("description", "")
    kind_of = f"{type_of(schema)}{', required' if required else ''}"
    yield f"| `{path}` | {kind_of} | {' '.join([text, *bounds(schema)]).strip()} |"
    inner = schema if "properties" in schema else items or {}
    suffix = "[]" if items else ""
    for name, field in inner.get("properties", {}).items():
        yield from rows(f"{path}{suffix}.{name}", field, required=name in inner.get("required", []))


def type_of(schema: dict[str, Any]) -> str:
    """The type in a word or two."""
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {type_of(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))


def bounds(schema: dict[str, Any]) -> Iterator[str]:
    """Enumerations, bounds and defaults as short sentences."""
    inner = schema.get("items", schema)
    if "enum" in inner:
        yield f"One of {', '.join(f'`{value}`' for value in inner['enum'])}."
    if "minimum" in schema and "maximum" in schema:
        yield f"{schema['minimum']} to {schema['maximum']}."
    if "maxItems" in schema:
        yield f"{schema.get('minItems', 0)} to {schema['maxItems']} items."
    if "default" in schema:
        yield f"Default `{schema['default']}`."


def messages(schema: Any) -> Iterator[str]:
    """The messages of all rules."""
    if isinstance(schema, dict):
        yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", []))
        for value in schema.values():
            yield from messages(value)


def main() -> int:
    """The exit status."""
    wanted = document()
    if "--check" not in sys.argv:
        TARGET.write_text(wanted, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != wanted:
        sys.stderr.write("docs/crds.md is not what crds/ say: run hack/crd_docs.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
