# SPDX-License-Identifier: Apache-2.0
"""The node's network as the kernel reports it: interfaces, own addresses, routes to pods, bridges.

`HostNetwork` is the narrow interface that the rest sees; `Netlink` is the real one. It works in the network
namespace of the thread that makes it. A change is only a hint to read everything again, so a message that is
lost (the kernel drops them when a reader is slow) costs nothing but time.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from wildcard_operator.datapath.changefeed import ChangeFeed
from wildcard_operator.datapath.rtnetlink import (
    Attributes,
    Rtnetlink,
    attribute,
    attributes,
    nested,
    number,
)
from wildcard_operator.model.net import ADDRESS_BITS, V4, V6, Address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_GROUPS: Final = (1, 5, 7, 9, 11)  # links, then addresses and routes of IPv4 and of IPv6
_FAMILIES: Final = {int(socket.AF_INET): V4, int(socket.AF_INET6): V6}

_RTM_NEWLINK, _RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE = 16, 18, 22, 26
_LINK: Final = struct.Struct("=BxHiII")  # family, type, index, flags, which flags change
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_EXT_MASK, _IFLA_LINK_NETNSID = 3, 10, 18, 29, 37
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND = 1, 2, 4
_BRIDGE_FILTERS: Final = (36, 37)  # IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES
_SKIP_STATISTICS: Final = 8  # RTEXT_FILTER_SKIP_STATS: more than half of what a link's message is
_ADDRESS: Final = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, interface
_IFA_ADDRESS, _IFA_LOCAL, _IFA_TARGET_NETNSID = 1, 2, 10
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, length of destination, ..., table, ..., type, flags
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_UNICAST: Final = 1
_MAIN_TABLE: Final = 254


@dataclass(frozen=True, slots=True)
class Link:
    """One interface. `kind` is "" for hardware; `bridge` the index of the bridge whose port it is, or 0.

    `peer_netns` is the kernel's id of the namespace at a veth's far end, None where that is here.
    """

    index: int
    name: str
    kind: str = ""
    bridge: int = 0
    peer_netns: int | None = None


@dataclass(frozen=True, slots=True)
class HostState:
    """The node's network at one moment.

    Attributes:
        links: By index.
        addresses: The node's own addresses, on any interface.
        routes: Addresses with a route of their own, to the interface that it leads to.
        behind: For ports of bridges, the addresses at the far end.
        primary: Indices of the interfaces of default routes.
        unfiltered: Bridges whose frames bridge-netfilter does not hand to netfilter.
    """

    links: Mapping[int, Link] = field(default_factory=dict)
    addresses: frozenset[Address] = frozenset()
    routes: Mapping[Address, int] = field(default_factory=dict)
    behind: Mapping[int, frozenset[Address]] = field(default_factory=dict)
    primary: frozenset[int] = frozenset()
    unfiltered: frozenset[int] = frozenset()


class HostNetwork(Protocol):
    """What the datapath needs of the node's network."""

    def fileno(self) -> int:
        """A descriptor that is readable when something changed."""

    def drain(self) -> None:
        """Forget the changes that were reported so far."""

    def read(self) -> HostState:
        """The network as it is now."""

    def filter_bridge(self, index: int) -> None:
        """Hand a bridge's frames to netfilter. Raises OSError where the kernel can't."""

    def close(self) -> None:
        """Let go of the descriptors."""


class Netlink:
    """The network namespace of the thread that makes this object. Not for several threads at once."""

    def __init__(self) -> None:
        self._kernel = Rtnetlink()
        self._events = ChangeFeed(socket.NETLINK_ROUTE, _GROUPS)

    def fileno(self) -> int:
        """A descriptor that is readable when something changed."""
        return self._events.fileno()

    def drain(self) -> None:
        """Forget the changes that were reported so far, and the rest of their burst."""
        self._events.drain_burst()

    def read(self) -> HostState:
        """The network as it is now."""
        links: dict[int, Link] = {}
        unfiltered: set[int] = set()
        for message in self._kernel.dump(
            _RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFLA_EXT_MASK, _u32(_SKIP_STATISTICS))
        ):
            _, _, index, *_ = _LINK.unpack_from(message)
            found = attributes(message, _LINK.size)
            info = attributes(found.get(_IFLA_LINKINFO, b""))
            links[index] = _link(index, found, info)
            if links[index].kind == "bridge" and not _is_filtered(info):
                unfiltered.add(index)
        routes, primary = self._routes()
        return HostState(
            links=links,
            addresses=frozenset(self._addresses()),
            routes=routes,
            behind=self._addresses_behind(links.values()),
            primary=primary,
            unfiltered=frozenset(unfiltered),
        )

    def filter_bridge(self, index: int) -> None:
        """Hand a bridge's frames to netfilter. Raises OSError where the kernel can't."""
        switches = nested(_INFO_DATA, (attribute(switch, b"\1") for switch in _BRIDGE_FILTERS))
        info = nested(_IFLA_LINKINFO, (attribute(_INFO_KIND, b"bridge"), switches))
        try:
            self._kernel.request(_RTM_NEWLINK, _LINK.pack(0, 0, index, 0, 0) + info)
        except OSError as error:
            raise OSError(error.errno, f"bridge {index}: {error.strerror}") from error

    def close(self) -> None:
        """Let go of the descriptors."""
        self._kernel.close()
        self._events.close()

    def _routes(self) -> tuple[dict[Address, int], frozenset[int]]:
        """Addresses with a route of their own, and the interfaces of default routes."""
        routes: dict[Address, int] = {}
        primary: set[int] = set()
        for message in self._kernel.dump(_RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, _MAIN_TABLE, 0, 0, 0, 0)):
            number_of_family, length, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(message)
            family = _FAMILIES.get(number_of_family)
            found = attributes(message, _ROUTE.size)
            index = number(found, _RTA_OIF)
            if family is None or index is None or kind != _UNICAST:
                continue
            if length == 0:
                primary.add(index)
            elif length == ADDRESS_BITS[family] and _RTA_GATEWAY not in found:
                routes[Address(family, int.from_bytes(found[_RTA_DST]))] = index
        return routes, frozenset(primary)

    def _addresses(self, netnsid: int | None = None) -> Iterator[Address]:
        """The addresses here, or in the namespace with this id."""
        there = b"" if netnsid is None else attribute(_IFA_TARGET_NETNSID, _u32(netnsid))
        for message in self._kernel.dump(_RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0) + there):
            family = _FAMILIES.get(message[0])
            found = attributes(message, _ADDRESS.size)
            # On a point-to-point link the address is the peer's, and the local one stands beside it.
            value = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
            if family is not None and value is not None:
                yield Address(family, int.from_bytes(value))

    def _addresses_behind(self, links: Iterable[Link]) -> Mapping[int, frozenset[Address]]:
        """The addresses at the far ends of veth pairs that are ports of bridges: which pod each belongs to.

        The kernel tells them by the id that it gave the namespace, so nobody has to enter that: CAP_NET_ADMIN
        is enough. Unlike neighbours and forwarding tables a pod can't forge them without CAP_NET_ADMIN of its
        own.
        """
        found = {}
        for link in links:
            if link.bridge and link.peer_netns is not None:
                with contextlib.suppress(OSError):  # the namespace is going, and so will the link
                    found[link.index] = frozenset(filter(_is_global, self._addresses(link.peer_netns)))
        return found


def _link(index: int, found: Attributes, info: Attributes) -> Link:
    kind = _text(info.get(_INFO_KIND, b""))
    enslaved = _text(info.get(_INFO_SLAVE_KIND, b"")) == "bridge"
    return Link(
        index=index,
        name=_text(found[_IFLA_IFNAME]),
        kind=kind,
        bridge=(number(found, _IFLA_MASTER) or 0) if enslaved else 0,
        peer_netns=number(found, _IFLA_LINK_NETNSID) if kind == "veth" else None,
    )


def _is_filtered(bridge: Attributes) -> bool:
    """Whether bridge-netfilter sees a bridge's frames; also where the kernel says nothing of the bridge."""
    data = attributes(bridge.get(_INFO_DATA, b""))
    return not data or all(number(data, switch) for switch in _BRIDGE_FILTERS)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)


def _is_global(address: Address) -> bool:
    if address.family == V4:
        return address.value >> 24 != 127 and address.value >> 16 != 0xA9FE
    return address.value != 1 and address.value >> 118 != 0xFE80 >> 6
