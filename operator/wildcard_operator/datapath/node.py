# SPDX-License-Identifier: Apache-2.0
"""A node's enforcement: takes tables from the compiler and the host's network, and makes the kernel judge by
them.

`commit` is all or nothing: one batch over every map, visible to packets at once. What else enforcement needs
(programs attached, connections tracked, bridges filtered) is brought about by `secure`, which says what
could not be done.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from wildcard_operator.datapath import encode
from wildcard_operator.datapath.errors import DatapathError, NodeCondition, Shortfall
from wildcard_operator.datapath.host import HostState
from wildcard_operator.datapath.ports import pod_ports
from wildcard_operator.model.entries import (
    AddressRow,
    Entry,
    InterfaceScopes,
    LocalPod,
    NodeDelta,
    NodeTables,
    UnknownPods,
)
from wildcard_operator.model.net import FAMILIES, Address
from wildcard_operator.wildcardmap.libbpf import LoadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wildcard_operator.datapath.host import HostNetwork
    from wildcard_operator.datapath.maps import NodeMaps
    from wildcard_operator.datapath.nftables import Tables
    from wildcard_operator.datapath.prefilter import Prefilter
    from wildcard_operator.datapath.programs import Programs
    from wildcard_operator.wildcardmap.group import GroupBatch


@dataclass(frozen=True)
class Desired:
    """What the small tables of the kernel should hold, beside rules. Replaced as a whole, never changed.

    Attributes:
        rows: Of the node's own pods. Those of a hundred thousand others stand in the kernel's table alone.
    """

    rows: Mapping[Address, AddressRow] = field(default_factory=dict)
    pods: Mapping[int, LocalPod] = field(default_factory=dict)
    interfaces: tuple[InterfaceScopes, ...] = ()
    unknown: UnknownPods = field(default_factory=UnknownPods)
    host: HostState = field(default_factory=HostState)
    ports: Mapping[int, int] = field(default_factory=dict)

    def with_delta(self, delta: NodeDelta) -> Desired:
        """After a change by the compiler."""
        gone = {*delta.rows_removed, *delta.rows_set}
        rows = {address: row for address, row in self.rows.items() if address not in gone}
        rows.update(_of_own_pods(delta.rows_set))
        pods = {number: pod for number, pod in self.pods.items() if number not in delta.pods_removed}
        pods.update(delta.pods_set)
        return replace(
            self,
            rows=rows,
            pods=pods,
            interfaces=self.interfaces if delta.interfaces is None else delta.interfaces,
            unknown=self.unknown if delta.unknown_pods is None else delta.unknown_pods,
        )

    def with_host(self, host: HostState) -> Desired:
        """After a change of the host's network."""
        return replace(self, host=host)

    def with_ports(self) -> Desired:
        """With pods found behind their interfaces."""
        return replace(self, ports=pod_ports(self.pods, self.host, self.ports))

    def address_value(self, address: Address, row: AddressRow | None) -> bytes | None:
        """The value of an address; None where nothing is known of it."""
        own = address in self.host.addresses
        return encode.endpoint_value(row, node=own) if own or row is not None else None

    def interface_values(self) -> dict[int, bytes]:
        """Interface indices and their values."""
        scopes = {scope.interface: scope for scope in self.interfaces if scope.ingress or scope.egress}
        values = {}
        for index, link in self.host.links.items():
            rows = self._rows_of_pod(self.ports.get(index))
            if rows or link.name in scopes:
                values[index] = encode.interface_value(rows, scopes.get(link.name))
        return values

    def _rows_of_pod(self, number: int | None) -> dict[Address, AddressRow]:
        """The rows of addresses that are the pod's own, and not a newer pod's or the node's."""
        pod = self.pods.get(number) if number is not None else None
        owned = {a: self.rows[a] for a in pod.addresses if a in self.rows} if pod else {}
        return {a: row for a, row in owned.items() if row.pod == number and a not in self.host.addresses}

    def unknown_ranges(self) -> set[tuple[bytes, int]]:
        """Ranges in which an address without a row is dropped."""
        return {encode.range_key(prefix) for prefix in self.unknown.ranges} if self.unknown.drop else set()


class NodeDatapath:
    """The one writer of a node's maps and the keeper of what is attached. Not for several threads at once.

    Tables of before a restart stay in force until the first `start`.
    """

    def __init__(
        self,
        maps: NodeMaps,
        programs: Programs,
        prefilter: Prefilter,
        tables: Tables,
        network: HostNetwork,
    ) -> None:
        self._maps = maps
        self._programs = programs
        self._prefilter = prefilter
        self._tables = tables
        self._network = network
        self._desired = Desired(host=network.read())
        self._interfaces: dict[int, bytes] = {}
        self._ranges: set[tuple[bytes, int]] = set()

    @property
    def host(self) -> HostState:
        """The host's network as of the last look."""
        return self._desired.host

    @property
    def ports(self) -> Mapping[int, int]:
        """Interface index -> number of the pod behind it."""
        return self._desired.ports

    @property
    def xdp_modes(self) -> dict[str, str]:
        """How the prefilter runs, by the interface's name: `native` or `generic`."""
        links = self._desired.host.links
        return {
            links[index].name: mode.name.lower()
            for index, mode in self._prefilter.modes.items()
            if index in links
        }

    def look_at_host(self) -> HostState:
        """Read the host's network anew; `commit` brings what changed into the kernel."""
        return self._network.read()

    def start(self, tables: NodeTables, host: HostState) -> None:
        """Put whole tables in the place of all that is there. One commit; raises WildcardError."""
        rows = _of_own_pods(tables.rows)
        desired = Desired(
            rows, tables.pods, tables.interfaces, tables.unknown_pods, host, self._desired.ports
        ).with_ports()
        for rule, name in tables.rules.items():
            self._maps.put_name(rule, name)
        with self._maps.group.batch() as batch:
            for family in FAMILIES:
                target = self._maps.rules[family]
                entries = [entry for entry in tables.entries if entry.family == family]
                batch.on(target).replace(encode.rule_arrays(target.description, entries))
            addresses = self._maps.addresses
            batch.on(addresses).replace(
                encode.address_arrays(addresses.description, tables.rows, host.addresses)
            )
            self._replace_small(batch, desired)
        gone = sorted(self._maps.read_names().keys() - tables.rules.keys())
        self._forget(gone)
        self._take(desired)

    def commit(self, delta: NodeDelta, host: HostState | None = None) -> None:
        """Bring a change of the tables, and of the host's network where given, into the kernel: all at once.

        Raises WildcardError, and then nothing is changed.
        """
        former = self._desired
        desired = former.with_delta(delta)
        if host is not None:
            desired = desired.with_host(host)
        desired = desired.with_ports()
        for rule, name in delta.rules_added.items():
            self._maps.put_name(rule, name)
        rows: dict[Address, AddressRow | None] = dict.fromkeys(delta.rows_removed)
        rows.update(delta.rows_set)
        turned = desired.host.addresses ^ former.host.addresses
        rows.update((address, self._row_in_force(address)) for address in turned - rows.keys())
        with self._maps.group.batch() as batch:
            self._change_rules(batch, delta.entries_removed, delta.entries_added)
            for address, row in rows.items():
                self._change_address(batch, address, desired.address_value(address, row))
            self._change_interfaces(batch, desired.interface_values())
            self._change_ranges(batch, desired.unknown_ranges())
        self._forget(list(delta.rules_removed))
        self._take(desired)

    def secure(self, *, disturbed: bool) -> tuple[NodeCondition, ...]:
        """Make programs attached, connections tracked and bridges filtered; returns what could not be done.

        `disturbed`: somebody else changed nftables, so look at what is there.
        """
        conditions: list[NodeCondition] = []
        try:
            self._programs.ensure()
        except DatapathError as error:
            conditions.append(error.condition)
        except LoadError as error:
            conditions.append(NodeCondition(Shortfall.LOAD_FAILED, "netfilter", str(error)))
        conditions += self._secure_tables(disturbed=disturbed)
        conditions += self._secure_bridges()
        wanted = {scope.interface for scope in self._desired.interfaces if scope.ingress}
        links = [link for link in self.host.links.values() if link.name in wanted]
        conditions += self._prefilter.ensure(links)
        return tuple(conditions)

    def _secure_tables(self, *, disturbed: bool) -> list[NodeCondition]:
        ports = [index for index in self.ports if self.host.links[index].bridge]
        try:
            self._tables.reconcile(ports, disturbed=disturbed)
        except OSError as error:
            return [NodeCondition(Shortfall.NO_NFTABLES, "", str(error))]
        return []

    def _secure_bridges(self) -> list[NodeCondition]:
        conditions = []
        for index in sorted({self.host.links[port].bridge for port in self.ports} & self.host.unfiltered):
            name = self.host.links[index].name
            try:
                self._network.filter_bridge(index)
            except OSError as error:
                conditions.append(NodeCondition(Shortfall.NO_BRIDGE_NETFILTER, name, str(error)))
        return conditions

    def _take(self, desired: Desired) -> None:
        self._desired = desired
        self._interfaces = desired.interface_values()
        self._ranges = desired.unknown_ranges()

    def _forget(self, rules: list[int]) -> None:
        self._maps.reset_counters(rules)
        for rule in rules:
            self._maps.drop_name(rule)

    def _change_rules(self, batch: GroupBatch, removed: Iterable[Entry], added: Iterable[Entry]) -> None:
        for entry in removed:
            changes = batch.on(self._maps.rules[entry.family])
            changes.delete(encode.rule(entry), priority=entry.priority, order=entry.order)
        for entry in added:
            changes = batch.on(self._maps.rules[entry.family])
            changes.update(
                encode.rule(entry),
                encode.decision_value(entry),
                priority=entry.priority,
                order=entry.order,
                rule_id=entry.rule,
            )

    def _row_in_force(self, address: Address) -> AddressRow | None:
        entry = self._maps.addresses.get((encode.address_key(address),))
        return encode.endpoint_row(entry.value) if entry is not None else None

    def _change_address(self, batch: GroupBatch, address: Address, value: bytes | None) -> None:
        changes, key = batch.on(self._maps.addresses), (encode.address_key(address),)
        if value is None:
            changes.delete(key)
        else:
            changes.update(key, value, rule_id=0)

    def _change_interfaces(self, batch: GroupBatch, desired: Mapping[int, bytes]) -> None:
        for index, value in desired.items():
            if self._interfaces.get(index) != value:
                batch.on(self._maps.interfaces).update((encode.interface_key(index),), value, rule_id=0)
        for index in self._interfaces.keys() - desired.keys():
            batch.on(self._maps.interfaces).delete((encode.interface_key(index),))

    def _change_ranges(self, batch: GroupBatch, desired: set[tuple[bytes, int]]) -> None:
        for key, length in desired - self._ranges:
            batch.on(self._maps.unknown).update(((key, length),), bytes(8), rule_id=0)
        for key, length in self._ranges - desired:
            batch.on(self._maps.unknown).delete(((key, length),))

    def _replace_small(self, batch: GroupBatch, desired: Desired) -> None:
        for target, rows in (
            (
                self._maps.interfaces,
                [((encode.interface_key(i),), value) for i, value in desired.interface_values().items()],
            ),
            (self._maps.unknown, [((key,), bytes(8)) for key in desired.unknown_ranges()]),
        ):
            batch.on(target).replace(encode.plain_arrays(target.description, target.shape.value_size, rows))


def _of_own_pods(rows: Mapping[Address, AddressRow]) -> dict[Address, AddressRow]:
    return {address: row for address, row in rows.items() if row.pod}
