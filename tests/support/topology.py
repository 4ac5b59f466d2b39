# SPDX-License-Identifier: Apache-2.0
"""Nodes and pods out of network namespaces: what a CNI plugin and a Service proxy make of a machine.

`Fabric` is the network between nodes: a bridge in a namespace of its own, with the hosts outside of the
cluster on it. A `Node` forwards for its pods in one of two manners: `ptp` gives each pod a routed veth (as
the CNI plugins ptp, Calico and Cilium do), `bridge` puts all on one bridge (as the CNI plugins bridge and
flannel do). Both families everywhere. Nothing here knows of policies.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from pyroute2.netlink.exceptions import NetlinkError

from support.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Cni = Literal["ptp", "bridge"]
GATEWAY_V4 = "169.254.1.1"
FIRST_NODE = 10
OUTSIDE = 250
GATEWAY_V6 = "fe80::ecee:eeff:feee:eeee"


def full(address: str) -> str:
    """The address with its whole length: `10.0.0.1/32`."""
    return f"{address}/{ipaddress.ip_address(address).max_prefixlen}"


def version(address: str) -> int:
    """4 or 6."""
    return ipaddress.ip_address(address).version


@dataclass(slots=True)
class Pod:
    """A pod: its namespace, its addresses, and its interface on the node (`host_index`, `host_ifname`)."""

    name: str
    netns: Namespace
    addresses: tuple[str, ...]
    host_ifname: str
    host_index: int
    index: int

    def address(self, family: int) -> str:
        """The pod's address of a family; raises StopIteration when it has none."""
        return next(a for a in self.addresses if version(a) == family)


@dataclass(slots=True)
class Node:
    """A node: its namespace, its addresses in the fabric, its pods."""

    name: str
    netns: Namespace
    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    cni: Cni
    index: int
    """The index of eth0, the interface towards the fabric."""
    pods: dict[str, Pod] = field(default_factory=dict)
    bridge_index: int = 0
    started: int = 0
    """Pods that were ever started: gives interfaces their names."""

    def add_pod(self, name: str, *addresses: str) -> Pod:
        """Start a pod: a namespace with eth0 and a default route, as the node's CNI does it."""
        netns = Namespace(name)
        self.started += 1
        ifname = f"pod{self.started}"
        host, inner = self.netns.veth(ifname, netns, "eth0")
        attach = self._attach_routed if self.cni == "ptp" else self._attach_bridged
        attach(netns, host, inner, addresses)
        pod = self.pods[name] = Pod(name, netns, addresses, ifname, host, inner)
        return pod

    def remove_pod(self, name: str) -> None:
        """End a pod; its interface and routes go with it."""
        pod = self.pods.pop(name)
        for address in pod.addresses if self.cni == "bridge" else ():
            # A pod that gets the address next has another MAC address, and neighbours are locked for a
            # second.
            with suppress(NetlinkError):
                self.netns.netlink.neigh("del", dst=address, ifindex=self.bridge_index)
        self.netns.netlink.link("del", index=pod.host_index)
        pod.netns.close()

    def _attach_routed(self, netns: Namespace, host: int, inner: int, addresses: tuple[str, ...]) -> None:
        families = {version(a) for a in addresses}
        if 4 in families:
            self.netns.address(host, f"{GATEWAY_V4}/32")
        if 6 in families:
            self.netns.address(host, f"{GATEWAY_V6}/64")
        for address in addresses:
            netns.address(inner, full(address))
            self.netns.route(full(address), host)
        if 4 in families:
            netns.route("0.0.0.0/0", inner, via=GATEWAY_V4)
        if 6 in families:
            netns.route("::/0", inner, via=GATEWAY_V6)

    def _attach_bridged(self, netns: Namespace, host: int, inner: int, addresses: tuple[str, ...]) -> None:
        # Hairpin mode as kubenet and the bridge plugin offer it: a Service may lead a pod back to itself.
        self.netns.netlink.link("set", index=host, master=self.bridge_index)
        self.netns.netlink.brport("set", index=host, IFLA_BRPORT_MODE=1)
        for address in addresses:
            cidr = next(c for c in self.pod_cidrs if ipaddress.ip_address(address) in ipaddress.ip_network(c))
            network = ipaddress.ip_network(cidr)
            netns.address(inner, f"{address}/{network.prefixlen}")
            default = "0.0.0.0/0" if network.version == 4 else "::/0"
            netns.route(default, inner, via=str(network[1]))

    def service(
        self, address: str, port: int, backends: Iterable[tuple[str, int]], protocol: str = "tcp"
    ) -> None:
        """Translate a Service's address and port to a backend, for pods and for the node itself."""
        target, target_port = next(iter(backends))
        family, shown = ("ip6", f"[{target}]") if ":" in target else ("ip", target)
        rule = f"{family} daddr {address} {protocol} dport {port} dnat to {shown}:{target_port}"
        self.netns.nft(f"""
            table {family} services {{
                chain prerouting {{ type nat hook prerouting priority dstnat; {rule}; }}
                chain output {{ type nat hook output priority -100; {rule}; }}
                chain postrouting {{ type nat hook postrouting priority srcnat;
                    {family} saddr {target} {family} daddr {target} masquerade; }}
            }}""")

    def masquerade(self) -> None:
        """Give what leaves the cluster the node's address, as most CNIs do."""
        for cidr in self.pod_cidrs:
            family = "ip6" if ":" in cidr else "ip"
            self.netns.nft(f"""
                table {family} masquerading {{
                    chain postrouting {{ type nat hook postrouting priority srcnat;
                        {family} saddr {cidr} oifname "eth0" masquerade; }}
                }}""")


class Fabric:
    """The network between nodes, and the hosts outside of the cluster on it.

    Use it as a context manager: everything ends with it.
    """

    V4 = ipaddress.ip_network("192.168.50.0/24")
    V6 = ipaddress.ip_network("fd00:192:168:50::/64")

    def __init__(self) -> None:
        self.netns = Namespace("fabric")
        self.netns.bridge("br0")
        self.bridge_index = self.netns.index("br0")
        self.nodes: dict[str, Node] = {}
        self.outside = self._join("outside", OUTSIDE)
        self.outside.sysctl("ipv4/ip_nonlocal_bind", 1)
        self.outside.sysctl("ipv6/ip_nonlocal_bind", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _addresses(self, number: int) -> tuple[str, str]:
        """The same decimal digits in both families: .11 and ::11."""
        return str(self.V4[number]), f"{self.V6[0]}{number}"

    def _join(self, name: str, number: int) -> Namespace:
        netns = Namespace(name)
        port, inner = self.netns.veth(f"p{number}", netns, "eth0")
        self.netns.netlink.link("set", index=port, master=self.bridge_index)
        v4, v6 = self._addresses(number)
        netns.address(inner, f"{v4}/{self.V4.prefixlen}", f"{v6}/{self.V6.prefixlen}")
        return netns

    def add_node(
        self,
        name: str,
        cni: Cni = "ptp",
        addresses: tuple[str, ...] = (),
        pod_cidrs: tuple[str, ...] = (),
    ) -> Node:
        """Start a node without pods. Pod ranges default to 10.244.N.0/24 and fd00:10:244:N::/64.

        `addresses` are further ones of the node, beside those in the fabric.
        """
        number = len(self.nodes) + 1
        netns = self._join(name, FIRST_NODE + number)
        netns.sysctl("ipv4/ip_forward", 1)
        netns.sysctl("ipv6/conf/all/forwarding", 1)
        index = netns.index("eth0")
        netns.address(index, *(full(a) for a in addresses))
        cidrs = pod_cidrs or (f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64")
        node = Node(name, netns, (*self._addresses(FIRST_NODE + number), *addresses), cidrs, cni, index)
        if cni == "bridge":
            node.bridge_index = netns.bridge("cni0")
            for cidr in cidrs:
                network = ipaddress.ip_network(cidr)
                netns.address(node.bridge_index, f"{network[1]}/{network.prefixlen}")
        self._connect(node)
        self.nodes[name] = node
        return node

    def _connect(self, node: Node) -> None:
        """Route each node's pods and further addresses to it, from the other nodes and from outside."""
        for other in self.nodes.values():
            self.reach(node, other.netns, other.index)
            self.reach(other, node.netns, node.index)
        self.reach(node, self.outside, self.outside.index("eth0"))
        node.netns.route("0.0.0.0/0", node.index, via=self._addresses(OUTSIDE)[0])
        node.netns.route("::/0", node.index, via=self._addresses(OUTSIDE)[1])

    @staticmethod
    def reach(node: Node, netns: Namespace, ifindex: int) -> None:
        """Route what belongs to a node to it, from one namespace of the fabric."""
        for prefix in (*node.pod_cidrs, *(full(a) for a in node.addresses[2:])):
            netns.route(prefix, ifindex, via=node.addresses[1 if ":" in prefix else 0])

    def add_node_address(self, node: Node, address: str) -> None:
        """Give a node one more address, reached from everywhere."""
        node.netns.address(node.index, full(address))
        for netns, ifindex in self._others(node):
            netns.route(full(address), ifindex, via=node.addresses[1 if ":" in address else 0])

    def remove_node_address(self, node: Node, address: str) -> None:
        """Take an address of `add_node_address` away."""
        host, length = full(address).split("/")
        node.netns.netlink.addr("del", index=node.index, address=host, prefixlen=int(length))
        for netns, ifindex in self._others(node):
            netns.netlink.route("del", dst=full(address), oif=ifindex)

    def _others(self, node: Node) -> Iterator[tuple[Namespace, int]]:
        yield self.outside, self.outside.index("eth0")
        yield from ((other.netns, other.index) for other in self.nodes.values() if other is not node)

    def outside_address(self, address: str) -> Namespace:
        """Give the host outside of the cluster one more address; returns its namespace."""
        self.outside.address(self.outside.index("lo"), full(address))
        return self.outside

    def close(self) -> None:
        """End everything. Idempotent."""
        for node in self.nodes.values():
            for pod in node.pods.values():
                pod.netns.close()
            node.netns.close()
        self.outside.close()
        self.netns.close()
