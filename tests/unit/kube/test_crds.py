# SPDX-License-Identifier: Apache-2.0
"""The schemas and the parsers know the same fields, and refuse the same objects."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from support.manifests import CRDS, REFUSED_FILTERS, crd_documents, refused_filter
from wildcard_operator.compiler.filters import wildcard_filter
from wildcard_operator.model.addresssets import address_set_from_dict
from wildcard_operator.model.errors import ObjectRef, RefusedError
from wildcard_operator.model.ruleset_parser import ruleset_from_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMAS = {
    document["spec"]["names"]["kind"]: document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for document in crd_documents()
}
EXPRESSIONS = [{"key": "a", "operator": "In", "values": ["b"]}]
MAXIMAL_FILTER: dict[str, Any] = {
    "apiVersion": "wildcard-operator.io/v1alpha1",
    "kind": "WildcardFilter",
    "metadata": {"name": "maximal", "generation": 1},
    "spec": {
        "priority": 1,
        "mode": "Audit",
        "direction": "Ingress",
        "target": {
            "pods": {
                "namespaceSelector": {"matchLabels": {"a": "b"}, "matchExpressions": EXPRESSIONS},
                "podSelector": {"matchExpressions": EXPRESSIONS},
            }
        },
        "rules": [
            {"name": "icmp", "action": "Allow", "protocol": "ICMP", "icmp": {"type": 8, "code": 0}},
            {"name": "flags", "action": "Drop", "tcpFlags": {"value": ["SYN"], "mask": ["SYN", "ACK"]}},
            {
                "name": "ports",
                "action": "Pass",
                "protocol": 6,
                "sources": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}],
                "destinations": [{"cidr": "10.0.0.0/8"}],
                "sourcePorts": [{"port": 1, "endPort": 2}],
                "destinationPorts": [{"port": 1}],
            },
        ],
    },
}
NODE_FILTER: dict[str, Any] = {
    **MAXIMAL_FILTER,
    "spec": {
        "direction": "Egress",
        "target": {
            "nodes": {
                "nodeSelector": {"matchExpressions": EXPRESSIONS},
                "interfaces": {"names": ["eth0"], "patterns": ["bond*"], "primary": True},
            }
        },
        "rules": [{"name": "all", "action": "Drop"}],
    },
}


class Recording(dict[str, Any]):
    """An object that notes which of its fields are asked for."""

    def __init__(self, content: dict[str, Any], path: str, asked: set[str]) -> None:
        super().__init__({key: recording(value, f"{path}.{key}", asked) for key, value in content.items()})
        self._path = path
        self._asked = asked

    def get(self, key: str, default: Any = None) -> Any:
        self._asked.add(f"{self._path}.{key}")
        return super().get(key, default)


def recording(value: Any, path: str, asked: set[str]) -> Any:
    if isinstance(value, dict):
        return Recording(value, path, asked)
    return [recording(item, path, asked) for item in value] if isinstance(value, list) else value


def schema_paths(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    yield path
    if "additionalProperties" in schema or "items" in schema:
        yield from schema_paths(schema.get("items") or schema["additionalProperties"], path)
    for name, inner in schema.get("properties", {}).items():
        yield from schema_paths(inner, f"{path}.{name}")


def example(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CRDS / f"examples/{name}.yaml").read_text()))


def spec_fields(kind: str) -> set[str]:
    return {path for path in schema_paths(SCHEMAS[kind]) if path.startswith(".spec.")}


def test_the_filter_parser_reads_the_fields_of_the_schema_and_no_others() -> None:
    asked: set[str] = set()
    for document in (MAXIMAL_FILTER, NODE_FILTER):
        wildcard_filter(recording(document, "", asked))

    # Labels are asked for by their own keys.
    read = {path for path in asked if path.startswith(".spec.") and ".matchLabels." not in path}
    assert read == spec_fields("WildcardFilter")


def test_the_ruleset_parser_reads_only_fields_of_the_schema() -> None:
    asked: set[str] = set()
    for document in (MAXIMAL_FILTER, NODE_FILTER):
        parsed = wildcard_filter(document)
        assert parsed is not None
        spec = recording(parsed.to_dict(), ".spec", asked)
        assert ruleset_from_dict(spec, parsed.source).to_dict() == parsed.to_dict()
    (ruleset,) = example("ruleset")
    source = ObjectRef("NetworkPolicy", "shop", "web")
    parsed = ruleset_from_dict(recording(ruleset["spec"], ".spec", asked), source)

    assert parsed.problems == ()
    assert asked - spec_fields("RuleSet") == set()


def test_the_example_of_an_address_set_is_read() -> None:
    (document,) = example("addressset")
    asked: set[str] = set()

    parsed = address_set_from_dict("x", recording(document["spec"], ".spec", asked))

    assert parsed.to_dict() == document["spec"]
    assert {path for path in asked if ".labels." not in path} == spec_fields("AddressSet")


@pytest.mark.parametrize("document", example("wildcardfilter"), ids=lambda one: one["metadata"]["name"])
def test_the_examples_of_filters_are_accepted(document: dict[str, Any]) -> None:
    assert wildcard_filter(document) is not None


@pytest.mark.parametrize("case", REFUSED_FILTERS, ids=lambda case: case["name"])
def test_what_admission_refuses_the_parser_refuses_too(case: dict[str, Any]) -> None:
    if case.get("tolerated"):
        assert wildcard_filter(refused_filter(case)) is not None
        return
    with pytest.raises(RefusedError):
        wildcard_filter(refused_filter(case))


def undescribed(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        if not inner.get("description"):
            yield path + name
        yield from undescribed(inner, f"{path}{name}.")
        yield from undescribed(inner.get("items", {}), f"{path}{name}.")


@pytest.mark.parametrize("kind", SCHEMAS)
def test_every_field_has_a_description(kind: str) -> None:
    own = {"properties": {name: SCHEMAS[kind]["properties"].get(name, {}) for name in ("spec", "status")}}

    assert [path for path in undescribed(own, "") if path not in {"spec", "status"}] == []


def test_the_reference_is_what_the_definitions_say() -> None:
    script = CRDS.parent / "hack/crd_docs.py"

    result = subprocess.run([sys.executable, script, "--check"], check=False, capture_output=True, text=True)

    assert result.stderr == ""
