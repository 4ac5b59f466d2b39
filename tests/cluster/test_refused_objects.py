# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses, with the advice that it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from support.controlplane import KubectlError
from support.manifests import (
    CRDS,
    GOOD_FILTER_SPEC,
    REFUSED_FILTERS,
    crd_documents,
    refused_filter,
    wildcard_filter,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.controlplane import ControlPlane


def validation_messages(schema: Any) -> Iterator[str]:
    """The messages of all CEL rules in a schema."""
    if isinstance(schema, dict):
        for rule in schema.get("x-kubernetes-validations", []):
            yield rule["message"]
        for value in schema.values():
            yield from validation_messages(value)


@pytest.mark.parametrize("case", REFUSED_FILTERS, ids=lambda case: case["name"])
def test_a_bad_filter_is_refused_with_advice(kinds: ControlPlane, case: dict[str, Any]) -> None:
    with pytest.raises(KubectlError) as refusal:
        kinds.apply(refused_filter(case))

    assert case["message"] in str(refusal.value)


def test_every_rule_of_the_schema_has_a_refused_example() -> None:
    (definition,) = (one for one in crd_documents() if one["spec"]["names"]["kind"] == "WildcardFilter")
    messages = set(validation_messages(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))

    unseen = {
        message for message in messages if not any(case["message"] in message for case in REFUSED_FILTERS)
    }

    assert unseen == set()


def test_a_filter_gets_its_defaults(kinds: ControlPlane) -> None:
    kinds.apply(wildcard_filter("defaults", GOOD_FILTER_SPEC))

    spec = kinds.get("wildcardfilter", "defaults")["spec"]
    kinds.kubectl("delete", "wildcardfilter", "defaults")

    assert spec == {**GOOD_FILTER_SPEC, "mode": "Enforce", "priority": 1000}


def test_the_largest_filter_is_accepted(kinds: ControlPlane) -> None:
    blocks = [
        {"cidr": f"10.{place}.0.0/16", "except": [f"10.{place}.{inner}.0/24" for inner in range(8)]}
        for place in range(32)
    ]
    ports = [{"port": 1 + 100 * place, "endPort": 50 + 100 * place} for place in range(32)]
    rules = [
        {
            "name": f"rule-{number}",
            "action": "Drop",
            "protocol": "TCP",
            "sources": blocks,
            "destinations": blocks,
        }
        | {"sourcePorts": ports, "destinationPorts": ports}
        for number in range(64)
    ]
    document = wildcard_filter("largest", {**GOOD_FILTER_SPEC, "rules": rules})

    kinds.kubectl("create", "-f", "-", stdin=yaml.safe_dump(document))
    kinds.kubectl("delete", "wildcardfilter", "largest")


@pytest.mark.parametrize("example", sorted((CRDS / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_accepted(kinds: ControlPlane, example: Path) -> None:
    kinds.kubectl("apply", "--dry-run=server", "--validate=strict", "-n", "default", "-f", example)


@pytest.mark.parametrize(
    "field", ["spec.rules.sources.except", "spec.mode", "status.conditions", "spec.target.nodes"]
)
def test_kubectl_explains_every_field(kinds: ControlPlane, field: str) -> None:
    explained = kinds.kubectl("explain", f"wildcardfilters.{field}")

    assert "<no description>" not in explained.split("FIELDS:")[0]
