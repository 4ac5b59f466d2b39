# SPDX-License-Identifier: Apache-2.0
"""The maps of a node: made once, pinned, reopened. What the programs read, and what gives counters their
names.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from wildcard_operator.datapath.abi import POLICY_OBJECT, abi
from wildcard_operator.datapath.errors import DatapathError, Shortfall
from wildcard_operator.datapath.pins import open_pin, remove_tree
from wildcard_operator.model.entries import RuleKind, RuleName
from wildcard_operator.model.net import FAMILIES, V4, V6, Action, Direction
from wildcard_operator.wildcardmap import bpfsys
from wildcard_operator.wildcardmap.btf import Btf
from wildcard_operator.wildcardmap.description import Description
from wildcard_operator.wildcardmap.group import WildcardGroup
from wildcard_operator.wildcardmap.map import WildcardMap

if TYPE_CHECKING:
    from pathlib import Path

    from wildcard_operator.datapath.pins import Pins
    from wildcard_operator.wildcardmap.libbpf import BpfObject

_NAME_SIZE: Final = 1024
_KEY: Final = np.dtype("=u4")
_RANGES: Final = 64


@dataclass(frozen=True, slots=True)
class Capacities:
    """Entries that each map can hold; taken when the maps are made, so a change needs `--cleanup`.

    `rules` is per family, and as many rules can be counted.
    """

    rules: int = 65_536
    addresses: int = 131_072
    interfaces: int = 4_096


class NodeMaps:
    """The open maps of a node, with the writer's lock.

    Attributes:
        group: What commits all of the following at once.
        rules: The rules of each family.
        addresses, interfaces, unknown: See `bpf/lib/maps.h`.
    """

    def __init__(self, pins: Pins, capacities: Capacities = Capacities(), *, write: bool = True) -> None:
        self._stack = ExitStack()
        folder = pins.maps / "node"
        with ExitStack() as undo:
            undo.callback(self._stack.close)
            if write:
                self._lock(pins.base)
                if not (pins.maps / "events").exists():
                    # The last that is pinned: without it a former start was cut short, and nothing uses the
                    # rest.
                    remove_tree(folder)
            self.group = (
                WildcardGroup.open(folder, write=write) if folder.is_dir() else WildcardGroup.create(folder)
            )
            self._stack.callback(self.group.close)
            layout = abi()
            self.rules = {
                V4: self._map(
                    folder, "rules_v4", "rule_v4", layout.decision.itemsize, capacities.rules, write
                ),
                V6: self._map(
                    folder, "rules_v6", "rule_v6", layout.decision.itemsize, capacities.rules, write
                ),
            }
            self.addresses = self._map(
                folder, "addresses", "address", layout.endpoint.itemsize, capacities.addresses, write
            )
            self.interfaces = self._map(
                folder, "interfaces", "port", layout.interface.itemsize, capacities.interfaces, write
            )
            self.unknown = self._map(folder, "unknown", "range", 8, _RANGES, write)
            self._names_fd = self._plain(
                pins.maps / "names",
                bpfsys.MapType.HASH,
                value_size=_NAME_SIZE,
                max_entries=capacities.rules,
                flags=bpfsys.F_NO_PREALLOC,
            )
            self._events_fd = self._plain(
                pins.maps / "events",
                bpfsys.MapType.PERCPU_ARRAY,
                value_size=16,
                max_entries=len(layout.events),
            )
            undo.pop_all()

    def _lock(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"another agent is running on {folder}"
            raise DatapathError(Shortfall.HOOK_IN_USE, message) from error

    def _map(
        self, folder: Path, name: str, key: str, value_size: int, entries: int, write: bool
    ) -> WildcardMap:
        description = key_description(key)
        if (folder / name).is_dir():
            opened = WildcardMap.open(folder / name, group=self.group, expect=description, write=write)
        else:
            ids = 1 if value_size != abi().decision.itemsize else entries
            opened = WildcardMap.create(
                description,
                max_entries=entries,
                value_size=value_size,
                max_rule_ids=ids,
                group=self.group,
                name=name,
            )
        self._stack.callback(opened.close)
        return opened

    def _plain(
        self, path: Path, kind: bpfsys.MapType, *, value_size: int, max_entries: int, flags: int = 0
    ) -> int:
        fd = open_pin(path)
        if fd is None:
            fd = bpfsys.map_create(
                kind, key_size=4, value_size=value_size, max_entries=max_entries, flags=flags, name=path.name
            )
            bpfsys.pin(fd, path)
        self._stack.callback(os.close, fd)
        return fd

    @property
    def wildcard_maps(self) -> dict[str, WildcardMap]:
        """The maps of the group, by their names in the programs."""
        return {
            "rules_v4": self.rules[V4],
            "rules_v6": self.rules[V6],
            "addresses": self.addresses,
            "interfaces": self.interfaces,
            "unknown": self.unknown,
        }

    def bind(self, target: BpfObject) -> None:
        """Make an object that is not loaded yet use these maps."""
        target.reuse_map("node", self.group.group_fd)
        for name, opened in self.wildcard_maps.items():
            opened.bind(target, name)
        target.reuse_map("events", self._events_fd)

    def rule_counters(self) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
        """Packets and bytes of every rule id, both families: uint64[ids, 2]."""
        return sum(
            (self.rules[family].counters() for family in FAMILIES[1:]), self.rules[FAMILIES[0]].counters()
        )

    def reset_counters(self, ids: list[int]) -> None:
        """Set counters to zero, for ids whose rule is gone."""
        for family in FAMILIES:
            self.rules[family].reset_counters(ids)

    def event_counts(self) -> dict[str, tuple[int, int]]:
        """Packets and bytes of every event."""
        cpus = bpfsys.possible_cpus()
        counts = {}
        for name, number in abi().events.items():
            data = bpfsys.map_lookup(self._events_fd, np.array(number, _KEY).tobytes(), 16 * cpus)
            packets, octets = np.frombuffer(data or bytes(16), np.uint64).reshape(-1, 2).sum(axis=0).tolist()
            counts[name] = packets, octets
        return counts

    def read_names(self) -> dict[int, RuleName]:
        """The names of rules as they were put by; one that can't be read is left out."""
        names = {}
        for key in bpfsys.map_keys(self._names_fd, 4):
            data = bpfsys.map_lookup(self._names_fd, key, _NAME_SIZE)
            if data:
                names[int(np.frombuffer(key, _KEY)[0])] = _decode_name(data)
        return names

    def put_name(self, rule: int, name: RuleName) -> None:
        """Keep the name of a rule id beyond this process."""
        data = json.dumps(asdict(name)).encode()
        bpfsys.map_update(self._names_fd, np.array(rule, _KEY).tobytes(), data.ljust(_NAME_SIZE, b"\0"))

    def drop_name(self, rule: int) -> None:
        """Forget the name of a rule id."""
        bpfsys.map_delete(self._names_fd, np.array(rule, _KEY).tobytes())

    def close(self) -> None:
        """Close all; what is pinned stays."""
        self._stack.close()


def key_description(key: str) -> Description:
    """The fields of a key that `WILDCARD_DESC_n` declares in the policy object."""
    return Description.of_struct(Btf.of_object(POLICY_OBJECT), key)


def _decode_name(data: bytes) -> RuleName:
    fields = json.loads(data.rstrip(b"\0"))
    return RuleName(
        kind=RuleKind(fields["kind"]),
        namespace=fields["namespace"],
        name=fields["name"],
        rule=fields["rule"],
        direction=Direction(fields["direction"]),
        action=Action(fields["action"]),
    )
