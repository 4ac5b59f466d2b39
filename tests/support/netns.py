# SPDX-License-Identifier: Apache-2.0
"""Throw-away network namespaces.

A namespace here has no name in the file system: it lives as long as a descriptor of this process is open, so
it is gone, with all its interfaces, rules and attached programs, however the process ends. Sockets keep the
namespace that they were made in: one thread can hold the sockets of a whole cluster.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pyroute2 import IPRoute

from support.processes import MORTAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _call(function: str, *args: int) -> None:
    if getattr(_libc, function)(*args) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function}: {os.strerror(error)}")


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class Namespace:
    """A network namespace; `close()` (or the end of the process) ends it.

    `netlink` is a pyroute2 socket inside it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        home = _current()
        try:
            _call("unshare", _CLONE_NEWNET)
            self.fd = _current()
            # No duplicate address detection: an address that can be used only a second later slows every
            # test.
            for key in ("all", "default"):
                Path(f"/proc/sys/net/ipv6/conf/{key}/accept_dad").write_text("0", encoding="ascii")
                Path(f"/proc/sys/net/ipv6/conf/{key}/accept_ra").write_text("0", encoding="ascii")
            # Off as a bridge is made: who wants its frames filtered has to ask for it.
            for key in ("iptables", "ip6tables"):
                Path(f"/proc/sys/net/bridge/bridge-nf-call-{key}").write_text("0", encoding="ascii")
            self.netlink = IPRoute()
            self.netlink.link("set", index=1, state="up")
        finally:
            _call("setns", home, _CLONE_NEWNET)
            os.close(home)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move this thread into the namespace; processes started meanwhile are in it as well."""
        home = _current()
        _call("setns", self.fd, _CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", home, _CLONE_NEWNET)
            os.close(home)

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run a command inside and return what it prints; raises with its standard error when it fails."""
        with self.entered():
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"{self.name}: {' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done.stdout

    def spawn(self, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a command inside; it ends with this process at the latest."""
        with self.entered():
            return subprocess.Popen([*MORTAL, *command], text=True, **options)

    def nft(self, ruleset: str) -> None:
        """Load an nftables script."""
        self.run("nft", "-f", "-", stdin=ruleset)

    def sysctl(self, key: str, value: object) -> None:
        """Set net.KEY, written with slashes: `ipv4/ip_forward`."""
        with self.entered():
            Path("/proc/sys/net", key).write_text(str(value), encoding="ascii")

    def index(self, ifname: str) -> int:
        """The interface's index; raises KeyError when there is none of that name."""
        found = self.netlink.link_lookup(ifname=ifname)
        if not found:
            raise KeyError(f"{self.name}: no interface {ifname}")
        return int(found[0])

    def up(self, ifname: str, **settings: object) -> int:
        """Set an interface up, with other settings (`address`, `mtu`, `master`); returns its index."""
        index = self.index(ifname)
        self.netlink.link("set", index=index, state="up", **settings)
        return index

    def bridge(self, ifname: str) -> int:
        """Make a bridge that learns at once; returns its index.

        Its hardware address is set: else it would follow its ports', and neighbours would send to an old one.
        """
        mac = "02:62:72:00:00:01"
        self.netlink.link(
            "add", ifname=ifname, kind="bridge", address=mac, br_forward_delay=0, br_stp_state=0
        )
        return self.up(ifname)

    def veth(self, ifname: str, peer: Namespace, peer_ifname: str) -> tuple[int, int]:
        """Make a veth pair into another namespace, both ends up; returns both indices."""
        self.netlink.link(
            "add", ifname=ifname, kind="veth", peer={"ifname": peer_ifname, "net_ns_fd": peer.fd}
        )
        return self.up(ifname), peer.up(peer_ifname)

    def address(self, ifindex: int, *addresses: str) -> None:
        """Add addresses with a prefix length: `10.0.0.1/24`."""
        for address in addresses:
            host, length = address.split("/")
            flags = {"flags": 0x02} if ":" in host else {}  # IFA_F_NODAD
            self.netlink.addr("add", index=ifindex, address=host, prefixlen=int(length), **flags)

    def route(self, prefix: str, ifindex: int, via: str | None = None, source: str | None = None) -> None:
        """Add a route; `via` may lie outside the interface's networks."""
        options: dict[str, object] = {"oif": ifindex}
        if via:
            options |= {"gateway": via, "flags": 4}  # RTNH_F_ONLINK
        else:
            options |= {"scope": 253 if ":" not in prefix else 0}
        if source:
            options["prefsrc"] = source
        self.netlink.route("add", dst=prefix, **options)

    def close(self) -> None:
        """Let the namespace go. Idempotent."""
        if self.fd >= 0:
            self.netlink.close()
            os.close(self.fd)
            self.fd = -1
