# SPDX-License-Identifier: Apache-2.0
"""What `bpf/abi.h` states, read from the BTF of the built object: enums, and structs as numpy types.

Here stands only how Python fills the members, not where they lie. A member that the object lacks, or has in
another size, is an InvalidArgument at load.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from wildcard_operator.model.net import Action, Direction
from wildcard_operator.wildcardmap.btf import Btf
from wildcard_operator.wildcardmap.errors import InvalidArgument
from wildcard_operator.wildcardmap.libbpf import OBJECTS

if TYPE_CHECKING:
    from collections.abc import Mapping

POLICY_OBJECT: Final = OBJECTS / "policy.bpf.o"
PREFILTER_OBJECT: Final = OBJECTS / "prefilter.bpf.o"

# Scopes and classes are big-endian wherever they stand: they are copied into keys as they are.
_DECISION: Final = {"action": "u1", "audit": "u1", "flags_value": "u1", "flags_mask": "u1"}
_ENDPOINT: Final = {"pod": "=u4", "peer_class": ">u4", "policy": "2>u4", "filter": "2>u4", "node": "=u4"}
_CONTROL: Final = {"active": "=u4", "established": "=u4"}


@dataclass(frozen=True)
class Abi:
    """The layout of the objects as they were built.

    Attributes:
        decision: Value of a rules entry.
        endpoint: Value of an addresses row.
        interface: Value of an interfaces row.
        control: The word that names the judging program, and its settings.
        layout_version: Part of the pins' path.
        actions: Numbers of actions.
        directions: Place of each direction in arrays.
        events: Name (as `spoofed`) to number, in order.
        established: Name (`judge`, `pass`) to number.
    """

    decision: np.dtype[np.void]
    endpoint: np.dtype[np.void]
    interface: np.dtype[np.void]
    control: np.dtype[np.void]
    layout_version: int
    actions: dict[Action, int]
    directions: dict[Direction, int]
    events: dict[str, int]
    established: dict[str, int]


@functools.cache
def abi() -> Abi:
    """The layout of the policy object. Raises InvalidArgument, or OSError where the object is missing."""
    btf = Btf.of_object(POLICY_OBJECT)
    endpoint = _struct(btf, "endpoint", _ENDPOINT)
    return Abi(
        decision=_struct(btf, "decision", _DECISION),
        endpoint=endpoint,
        interface=_struct(btf, "interface", {"pod": endpoint, "host": "2>u4", "v4": "4u1", "v6": "16u1"}),
        control=_struct(btf, "control", _CONTROL),
        layout_version=btf.constants("layout")["LAYOUT_VERSION"],
        actions={action: btf.constants("action")[f"ACTION_{action.name}"] for action in Action},
        directions={d: btf.constants("direction")[f"DIRECTION_{d.name}"] for d in Direction},
        events=_named(btf, "event", "EVENT_"),
        established=_named(btf, "established", "ESTABLISHED_"),
    )


def _struct(btf: Btf, name: str, formats: Mapping[str, str | np.dtype[np.void]]) -> np.dtype[np.void]:
    members = {member.name: member for member in btf.members(name)}
    if set(members) != set(formats):
        raise InvalidArgument(f"struct {name} has the members {', '.join(members)}, not {', '.join(formats)}")
    for member, form in formats.items():
        if np.dtype(form).itemsize != members[member].size:
            raise InvalidArgument(f"{member} of struct {name} has {members[member].size} bytes")
    return np.dtype(
        {
            "names": list(formats),
            "formats": list(formats.values()),
            "offsets": [members[member].offset for member in formats],
            "itemsize": btf.size(name),
        }
    )


def _named(btf: Btf, enum: str, prefix: str) -> dict[str, int]:
    names = btf.constants(enum).items()
    return {name.removeprefix(prefix).lower(): number for name, number in names if name.startswith(prefix)}
