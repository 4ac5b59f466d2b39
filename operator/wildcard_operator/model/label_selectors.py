# SPDX-License-Identifier: Apache-2.0
"""Label selectors in a canonical form: two that are written differently and say the same are mostly equal.

`matchLabels` becomes `In` with one value; requirements are sorted, values sorted and unique.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wildcard_operator.model.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from wildcard_operator.model.fields import Value

NAMESPACE_NAME_LABEL: Final = "kubernetes.io/metadata.name"


class Operator(enum.StrEnum):
    """The four operators of a label selector; a label that is absent satisfies NOT_IN and DOES_NOT_EXIST."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """One condition on one label; `values` is sorted, and empty for the operators on existence."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels satisfy it."""
        value = labels.get(self.key)
        if self.operator is Operator.IN:
            return value is not None and value in self.values
        if self.operator is Operator.NOT_IN:
            return value is None or value not in self.values
        return (value is not None) == (self.operator is Operator.EXISTS)


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """All requirements must hold; none at all selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels are selected."""
        # A loop, as this is what the compiler does most: a generator would take twice the time.
        for requirement in self.requirements:  # noqa: SIM110 - see above
            if not requirement.matches(labels):
                return False
        return True

    @property
    def keys(self) -> frozenset[str]:
        """The labels that it mentions."""
        return frozenset(requirement.key for requirement in self.requirements)

    def to_dict(self) -> list[dict[str, Any]]:
        """The requirements as they stand in a RuleSet."""
        return [
            {"key": r.key, "operator": r.operator.value, **({"values": list(r.values)} if r.values else {})}
            for r in self.requirements
        ]


EVERYTHING: Final = Selector()


def selector(requirements: Iterable[Requirement]) -> Selector:
    """The canonical selector of these requirements."""
    return Selector(tuple(sorted(set(requirements))))


def equals(key: str, value: str) -> Requirement:
    """What an entry of `matchLabels` says."""
    return Requirement(key, Operator.IN, (value,))


def parse_selector(value: Value) -> Selector:
    """A Kubernetes LabelSelector; an absent one selects everything."""
    value.only({"matchLabels", "matchExpressions"})
    requirements = [equals(key, text) for key, text in value.field("matchLabels").labels().items()]
    requirements += [parse_requirement(item) for item in value.field("matchExpressions").items()]
    return selector(requirements)


def parse_requirement(value: Value) -> Requirement:
    """One of `matchExpressions`, or of a RuleSet's canonical list."""
    value.only({"key", "operator", "values"})
    key = value.required("key").text()
    word = value.required("operator")
    if word.raw not in set(Operator):
        word.refuse(Refusal.INVALID_SELECTOR, f"{word.raw!r} is not one of {', '.join(Operator)}")
    operator = Operator(word.raw)
    values = value.field("values")
    texts = sorted({item.text() for item in values.items()})
    if operator in {Operator.IN, Operator.NOT_IN} and not texts:
        values.refuse(Refusal.INVALID_SELECTOR, f"operator {operator} needs at least one value")
    if operator in {Operator.EXISTS, Operator.DOES_NOT_EXIST} and texts:
        values.refuse(Refusal.INVALID_SELECTOR, f"operator {operator} takes no values: leave them out")
    return Requirement(key, operator, tuple(texts))


def refuse_keys(value: Value, parsed: Selector, refused: Collection[str]) -> None:
    """Refuse a selector that mentions one of these labels."""
    for key in sorted(parsed.keys.intersection(refused)):
        value.refuse(
            Refusal.VOLATILE_LABEL,
            f"label {key!r} changes with every roll-out and no author can know its value: "
            "select by labels of your own",
        )
