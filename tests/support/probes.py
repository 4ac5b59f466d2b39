# SPDX-License-Identifier: Apache-2.0
"""Probes, and the truth tables that expand to them.

A table is the product of sources, destinations, families and traffic, with the cells that are allowed (or
that are denied) listed. `expand` yields its single probes; `tests/cases/README.md` has the notation.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.strict import CaseError, as_list, mapping, sequence, text, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

REASONS = ("not isolated", "own node", "self")
PORT_PROTOCOLS = ("TCP", "UDP", "SCTP")
PROTOCOL_NAMES = (*PORT_PROTOCOLS, "ICMP", "ICMPv6")
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decider:
    """The rule that decided one end, as `simulate` gives it; `namespace` is None for a WildcardFilter."""

    kind: str
    namespace: str | None
    name: str
    rule: str


Decision = Decider | str
"""A rule, or one of REASONS where no rule was asked."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a probe: `name` as written, its address, and the pod (`namespace/name`) that it belongs to.

    `pod` is None for an address that was written as such: a host outside of the cluster, or a node.
    """

    name: str
    address: str
    pod: str | None


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is sent: a protocol name or number, and what that protocol has. `payload` is a size in bytes."""

    protocol: str | int = "TCP"
    port: int | None = None
    source_port: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    tcp_flags: tuple[str, ...] | None = None
    payload: int | None = None

    def fields(self) -> Object:
        """The fields of a probe as `wildcardctl simulate` reads them; a payload is not among them."""
        found: Object = {"protocol": self.protocol}
        if self.port is not None:
            found["port"] = self.port
        if self.source_port is not None:
            found["sourcePort"] = self.source_port
        icmp = {k: v for k, v in (("type", self.icmp_type), ("code", self.icmp_code)) if v is not None}
        if icmp:
            found["icmp"] = icmp
        if self.tcp_flags is not None:
            found["tcpFlags"] = list(self.tcp_flags)
        return found


@dataclass(frozen=True, slots=True)
class Probe:
    """One cell of a truth table; `egress` and `ingress` are None where the file does not say what decides."""

    source: Endpoint
    destination: Endpoint
    traffic: Traffic
    allowed: bool
    egress: Decision | None = None
    ingress: Decision | None = None

    def query(self) -> Object:
        """The probe as a plain dict. Addresses, not names: a pod's name means its first address only."""
        return {"from": self.source.address, "to": self.destination.address, **self.traffic.fields()}

    def told(self) -> str:
        """The probe in one line, for messages."""
        told = " ".join(f"{k}={v}" for k, v in self.traffic.fields().items())
        return f"{self.source.name} -> {self.destination.name} {told}"


_TRAFFIC = ("protocol", "port", "sourcePort", "icmp", "tcpFlags", "payload")
_MATRIX = ("ports", "families", "allowed", "denied", "egress", "ingress")


def expand(entry: Any, objects: Sequence[Object], place: str) -> Iterator[Probe]:
    """The probes of a step's truth, in the order written. Raises CaseError."""
    addresses = _pod_addresses(objects)
    probed = [_pod_name(item) for item in objects if item["kind"] == "Pod" and _can_be_probed(item)]
    tables = sequence(entry, f"{place}.truth")
    if not tables:
        raise CaseError(f"{place}.truth: is empty, so the step says nothing")
    for number, table in enumerate(tables):
        yield from _Table(table, addresses, probed, f"{place}.truth[{number}]").probes()


def _pod_addresses(objects: Sequence[Object]) -> dict[str, list[str]]:
    pods = [item for item in objects if item["kind"] == "Pod"]
    return {
        _pod_name(pod): [entry["ip"] for entry in pod.get("status", {}).get("podIPs", [])] for pod in pods
    }


def _pod_name(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _can_be_probed(pod: Object) -> bool:
    """Whether a pattern means this pod: it runs, on the pod network, and has an address."""
    status = pod.get("status", {})
    ended = status.get("phase") in ("Succeeded", "Failed")
    return bool(status.get("podIPs")) and not ended and not pod["spec"].get("hostNetwork", False)


class _Table:
    """One item of a truth table: the product of sources, destinations, families and traffic."""

    def __init__(
        self, entry: Any, addresses: Mapping[str, list[str]], probed: Sequence[str], place: str
    ) -> None:
        told = mapping(entry, place, required=("from", "to"), optional=(*_TRAFFIC, *_MATRIX))
        self._place = place
        self._addresses = addresses
        self._probed = probed
        self._sources = self._names(told["from"], "from")
        self._destinations = self._names(told["to"], "to")
        self._families = [_family(f, place) for f in as_list(told.get("families"))] or [None]
        self._traffic = _traffic_axis(told, place)
        self._egress = _decision(told.get("egress"), f"{place}.egress")
        self._ingress = _decision(told.get("ingress"), f"{place}.ingress")
        self._listed_is, self._listed = self._listing(told)

    def probes(self) -> Iterator[Probe]:
        several = len(self._sources) > 1 or len(self._destinations) > 1
        hit: set[int] = set()
        for source, destination in itertools.product(self._sources, self._destinations):
            if several and source == destination:
                continue
            for family, traffic in itertools.product(self._families, self._traffic):
                matching = [n for n, cells in enumerate(self._listed) if cells(source, destination, traffic)]
                hit.update(matching)
                yield Probe(
                    *self._ends(source, destination, family),
                    traffic=traffic,
                    allowed=self._listed_is if matching else not self._listed_is,
                    egress=self._egress,
                    ingress=self._ingress,
                )
        idle = [n for n in range(len(self._listed)) if n not in hit]
        if idle:
            raise CaseError(f"{self._place}: entries {idle} of its list match no cell of the table")

    def _names(self, entry: Any, what: str) -> list[str]:
        names: list[str] = []
        for item in as_list(entry):
            name = text(item, f"{self._place}.{what}")
            literal = name in self._addresses or _is_address(name)
            found = [name] if literal else fnmatch.filter(self._probed, name)
            if not found:
                raise CaseError(f"{self._place}.{what}: {name} is neither an address nor a pod")
            names += found
        if len(names) != len(set(names)) or not names:
            raise CaseError(f"{self._place}.{what}: empty, or an end stands twice: {names}")
        return names

    def _listing(self, told: Mapping[str, Any]) -> tuple[bool, list[_Cells]]:
        if ("allowed" in told) == ("denied" in told):
            raise CaseError(f"{self._place}: needs either allowed or denied")
        kind = "allowed" if "allowed" in told else "denied"
        listed = told[kind]
        if isinstance(listed, bool):
            return (kind == "allowed"), [_Cells(None, None, None)] if listed else []
        at = f"{self._place}.{kind}"
        return kind == "allowed", [self._cells(c, f"{at}[{n}]") for n, c in enumerate(sequence(listed, at))]

    def _cells(self, entry: Any, place: str) -> _Cells:
        told = mapping(entry, place, optional=("from", "to", "ports"))
        axis = [_traffic(item, place) for item in as_list(told.get("ports"))] or None
        for traffic in axis or []:
            if traffic not in self._traffic:
                raise CaseError(f"{place}.ports: {traffic.fields()} is not in the table's ports")
        return _Cells(as_list(told.get("from")) or None, as_list(told.get("to")) or None, axis)

    def _ends(self, source: str, destination: str, family: int | None) -> tuple[Endpoint, Endpoint]:
        if family is None:
            written = [_version(name) for name in (source, destination) if _is_address(name)]
            family = written[0] if written else _version(self._first_address(source))
        return self._endpoint(source, family), self._endpoint(destination, family)

    def _first_address(self, name: str) -> str:
        if not self._addresses[name]:
            raise CaseError(f"{self._place}: {name} has no address")
        return self._addresses[name][0]

    def _endpoint(self, name: str, family: int) -> Endpoint:
        known = [name] if _is_address(name) else self._addresses[name]
        addresses = [address for address in known if _version(address) == family]
        if not addresses:
            raise CaseError(f"{self._place}: {name} has no IPv{family} address")
        return Endpoint(name=name, address=addresses[0], pod=None if _is_address(name) else name)


@dataclass(frozen=True, slots=True)
class _Cells:
    """A part of a table: patterns for either end and a choice of traffic; None is all."""

    sources: list[str] | None
    destinations: list[str] | None
    traffic: list[Traffic] | None

    def __call__(self, source: str, destination: str, traffic: Traffic) -> bool:
        return (
            (self.sources is None or any(fnmatch.fnmatchcase(source, p) for p in self.sources))
            and (
                self.destinations is None
                or any(fnmatch.fnmatchcase(destination, p) for p in self.destinations)
            )
            and (self.traffic is None or traffic in self.traffic)
        )


def _traffic_axis(told: Mapping[str, Any], place: str) -> list[Traffic]:
    single = {name: told[name] for name in _TRAFFIC if name in told}
    if "ports" not in told:
        return [_traffic(single, place)]
    if single:
        raise CaseError(f"{place}: ports excludes {', '.join(single)}; give an item of ports as a mapping")
    axis = [_traffic(item, f"{place}.ports") for item in as_list(told["ports"])]
    if not axis or len(axis) != len(set(axis)):
        raise CaseError(f"{place}.ports: is empty, or the same traffic stands twice")
    return axis


def _traffic(entry: Any, place: str) -> Traffic:
    """`80`, `80/UDP`, or a mapping with the fields of a probe."""
    if isinstance(entry, int) and not isinstance(entry, bool):
        entry = {"port": entry}
    elif isinstance(entry, str):
        port, slash, protocol = entry.partition("/")
        if not slash or not port.isdecimal():
            raise CaseError(f"{place}: {entry!r} must be a port, port/protocol or a mapping")
        entry = {"port": int(port), "protocol": protocol}
    told = mapping(entry, place, optional=_TRAFFIC)
    protocol = told.get("protocol", "TCP")
    if protocol not in PROTOCOL_NAMES and not (type(protocol) is int and 0 <= protocol <= 255):
        raise CaseError(f"{place}: protocol {protocol!r} must be {', '.join(PROTOCOL_NAMES)} or 0 to 255")
    if (protocol in PORT_PROTOCOLS) != ("port" in told):
        raise CaseError(f"{place}: {', '.join(PORT_PROTOCOLS)} need a port, other protocols have none")
    icmp = mapping(told.get("icmp", {}), f"{place}.icmp", optional=("type", "code"))
    if icmp and protocol not in ("ICMP", "ICMPv6"):
        raise CaseError(f"{place}: icmp needs protocol ICMP or ICMPv6")
    if "tcpFlags" in told and protocol != "TCP":
        raise CaseError(f"{place}: tcpFlags needs protocol TCP")
    numbers = {
        name: whole(told[name], f"{place}.{name}")
        for name in ("port", "sourcePort", "payload")
        if name in told
    }
    return Traffic(
        protocol=protocol,
        port=numbers.get("port"),
        source_port=numbers.get("sourcePort"),
        icmp_type=icmp.get("type"),
        icmp_code=icmp.get("code"),
        tcp_flags=_flags(told["tcpFlags"], place) if "tcpFlags" in told else None,
        payload=numbers.get("payload"),
    )


def _flags(entry: Any, place: str) -> tuple[str, ...]:
    flags = tuple(sequence(entry, f"{place}.tcpFlags"))
    if not set(flags) <= set(TCP_FLAGS):
        raise CaseError(f"{place}.tcpFlags: must be among {', '.join(TCP_FLAGS)}")
    return flags


def _decision(entry: Any, place: str) -> Decision | None:
    if entry is None:
        return None
    if isinstance(entry, str):
        if entry not in REASONS:
            raise CaseError(f"{place}: {entry!r} must be a rule or one of {', '.join(REASONS)}")
        return entry
    told = mapping(entry, place, required=("kind", "name", "rule"), optional=("namespace",))
    return Decider(told["kind"], told.get("namespace"), told["name"], told["rule"])


def _family(entry: Any, place: str) -> int | None:
    if entry not in (4, 6):
        raise CaseError(f"{place}.families: {entry!r} must be 4 or 6")
    return int(entry)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version
