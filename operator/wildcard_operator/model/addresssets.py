# SPDX-License-Identifier: Apache-2.0
"""`AddressSet`: addresses of the pods of one namespace that share all identity labels and named ports.

The `spec` of the custom resource:

    formatVersion: 1
    namespace: shop
    labels: {app: web}                                  # identity labels: all but the volatile ones
    ports: [{name: http, protocol: 6, port: 8080}]      # named container ports, sorted
    addresses: [10.0.1.5, "fd00::5"]                    # one slice; a group may have several

An AddressSet that can't be read gives nobody anything: its addresses are in no selector, so nothing is
allowed by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from wildcard_operator.model.errors import ObjectRef, Refusal
from wildcard_operator.model.fields import Value
from wildcard_operator.model.net import Address, address_of, parse_address
from wildcard_operator.model.rulesets import FORMAT_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

ADDRESS_SET: Final = "AddressSet"

DEFAULT_VOLATILE_LABELS: Final = frozenset(
    {"pod-template-hash", "controller-revision-hash", "controller-uid", "batch.kubernetes.io/controller-uid"}
)


class NamedPort(NamedTuple):
    """A named container port."""

    name: str
    protocol: int
    port: int


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """What all pods of an AddressSet share. Labels and ports are sorted."""

    namespace: str
    labels: tuple[tuple[str, str], ...]
    ports: tuple[NamedPort, ...] = ()


@dataclass(frozen=True, slots=True, init=False)
class AddressSet:
    """A slice of a group's addresses. An agent may have 20,000 at once, so they are kept as their numbers."""

    group: Group
    numbers: tuple[int, ...]

    def __init__(self, group: Group, addresses: Iterable[Address]) -> None:
        object.__setattr__(self, "group", group)
        object.__setattr__(self, "numbers", tuple(address.number for address in addresses))

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses, in their order."""
        return tuple(address_of(number) for number in self.numbers)

    def to_dict(self) -> dict[str, Any]:
        """The `spec` of the custom resource."""
        return {
            "formatVersion": FORMAT_VERSION,
            "namespace": self.group.namespace,
            "labels": dict(self.group.labels),
            "ports": [port._asdict() for port in self.group.ports],
            "addresses": [address.text for address in self.addresses],
        }


def address_set_from_dict(name: str, spec: object) -> AddressSet:
    """The AddressSet of this name from its `spec`; `RefusedError` where it can't be read."""
    value = Value(ObjectRef(ADDRESS_SET, "", name), "spec", spec)
    version = value.required("formatVersion")
    if version.raw != FORMAT_VERSION:
        version.refuse(
            Refusal.UNKNOWN_FORMAT, f"{version.raw!r} is unknown to this version: it reads {FORMAT_VERSION}"
        )
    labels = value.field("labels").labels()
    group = Group(
        _shared(value.required("namespace").text()),
        tuple(_shared(label) for label in sorted(labels.items())),
        _shared(tuple(sorted(_named_port(item) for item in value.field("ports").items()))),
    )
    addresses = value.field("addresses").items()
    return AddressSet(group, (item.parsed(parse_address, Refusal.INVALID_VALUE) for item in addresses))


@lru_cache(maxsize=4096)
def _shared(value: T) -> T:
    """One object for equal values: thousands of groups have the same namespace, ports and most labels."""
    return value


def _named_port(value: Value) -> NamedPort:
    return NamedPort(
        value.required("name").text(),
        value.required("protocol").number(0, 255),
        value.required("port").number(1, 65535),
    )
