# SPDX-License-Identifier: Apache-2.0
"""The node's network as the kernel reports it: interfaces, own addresses, routes to pods, bridges.

`HostNetwork` is the narrow interface that the rest sees; `Netlink` is the real one. It works in the network
namespace of the thread that makes it. A change is only a hint to read everything again, so a message that is
lost (the kernel drops them when a reader is slow) costs nothing but time.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from wildcard_operator.datapath.changefeed import ChangeFeed
from wildcard_operator.datapath.peers import PeerAddresses
from wildcard_operator.model.net import ADDRESS_BITS, V4, V6, Address, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

_FAMILIES: Final = {socket.AF_INET: V4, socket.AF_INET6: V6}
_UNICAST: Final = 1
_MAIN_TABLE: Final = 254
_SKIP_STATISTICS: Final = 8  # RTEXT_FILTER_SKIP_STATS: more than half of what a link's message is
_GROUPS: Final = (1, 5, 7, 9, 11)  # links, then addresses and routes of IPv4 and of IPv6


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
        self._dumps = IPRoute(strict_check=True)
        self._events = ChangeFeed(socket.NETLINK_ROUTE, _GROUPS)
        self._peers = PeerAddresses()

    def fileno(self) -> int:
        """A descriptor that is readable when something changed."""
        return self._events.fileno()

    def drain(self) -> None:
        """Forget the changes that were reported so far, and the rest of their burst."""
        self._events.drain_burst()

    def read(self) -> HostState:
        """The network as it is now."""
        messages = list(self._dumps.get_links(ext_mask=_SKIP_STATISTICS))
        links = {message["index"]: _link(message) for message in messages}
        routes: dict[Address, int] = {}
        primary: set[int] = set()
        for message in self._dumps.get_routes(table=_MAIN_TABLE):
            self._take_route(message, routes, primary)
        return HostState(
            links=links,
            addresses=frozenset(self._own_addresses()),
            routes=routes,
            behind=self._addresses_behind(links),
            primary=frozenset(primary),
            unfiltered=frozenset(m["index"] for m in messages if _is_unfiltered(m)),
        )

    def filter_bridge(self, index: int) -> None:
        """Hand a bridge's frames to netfilter. Raises OSError where the kernel can't."""
        try:
            self._dumps.link("set", index=index, kind="bridge", br_nf_call_iptables=1, br_nf_call_ip6tables=1)
        except NetlinkError as error:
            raise OSError(error.code, f"bridge {index}: {error}") from error

    def close(self) -> None:
        """Let go of the descriptors."""
        self._dumps.close()
        self._events.close()
        self._peers.close()

    def _own_addresses(self) -> Iterator[Address]:
        for message in self._dumps.get_addr():
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if message["family"] in _FAMILIES and text:
                yield parse_address(text)

    @staticmethod
    def _take_route(message: Any, routes: dict[Address, int], primary: set[int]) -> None:
        family = _FAMILIES.get(message["family"])
        index = message.get_attr("RTA_OIF")
        if family is None or index is None or message["type"] != _UNICAST:
            return
        if message["dst_len"] == 0:
            primary.add(index)
        elif message["dst_len"] == ADDRESS_BITS[family] and not message.get_attr("RTA_GATEWAY"):
            routes[parse_address(message.get_attr("RTA_DST"))] = index

    def _addresses_behind(self, links: Mapping[int, Link]) -> Mapping[int, frozenset[Address]]:
        found = {}
        for link in links.values():
            if link.bridge and link.peer_netns is not None:
                with contextlib.suppress(OSError):  # the namespace is going, and so will the link
                    found[link.index] = frozenset(filter(_is_global, self._peers.read(link.peer_netns)))
        return found


def _link(message: ifinfmsg) -> Link:
    kind = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""
    enslaved = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_KIND") == "bridge"
    netns = message.get_attr("IFLA_LINK_NETNSID")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=kind,
        bridge=message.get_attr("IFLA_MASTER") if enslaved else 0,
        peer_netns=netns if kind == "veth" else None,
    )


def _is_unfiltered(message: ifinfmsg) -> bool:
    data = message.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
    if message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") != "bridge" or data is None:
        return False
    return not (data.get_attr("IFLA_BR_NF_CALL_IPTABLES") and data.get_attr("IFLA_BR_NF_CALL_IP6TABLES"))


def _is_global(address: Address) -> bool:
    if address.family == V4:
        return address.value >> 24 != 127 and address.value >> 16 != 0xA9FE
    return address.value != 1 and address.value >> 118 != 0xFE80 >> 6
