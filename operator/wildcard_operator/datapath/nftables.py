# SPDX-License-Identifier: Apache-2.0
"""The two nftables tables that enforcement leans on, kept where they are.

`inet wildcard-operator` makes the kernel track connections: a rule that mentions their state is enough, and
in a chain of no hook it costs no packet anything. `bridge wildcard-operator` drops tagged and PPPoE frames
from pods' ports on a
bridge: netfilter's IP hooks never see those, but the pod behind another port would.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
from typing import TYPE_CHECKING, Final, Protocol

from wildcard_operator.datapath.changefeed import ChangeFeed

if TYPE_CHECKING:
    from collections.abc import Collection

TABLE: Final = "wildcard-operator"
_NETLINK_NETFILTER: Final = 12
_NFNLGRP_NFTABLES: Final = 7

_CONNTRACK: Final = f"""
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
    chain track-connections {{
        ct state new
    }}
}}
"""
_NO_TAGS: Final = f"""
table bridge {TABLE}
delete table bridge {TABLE}
table bridge {TABLE} {{
    set pods {{
        type iface_index
        elements = {{ ELEMENTS }}
    }}
    chain no-tagged-frames {{
        type filter hook prerouting priority -310; policy accept
        ether type ip accept
        ether type ip6 accept
        iif @pods ether type {{ 8021q, 8021ad, 0x9100, 0x8863, 0x8864 }} counter drop
    }}
}}
"""
_NOTHING: Final = f"""
table {{family}} {TABLE}
delete table {{family}} {TABLE}
"""


class Nftables(Protocol):
    """nftables in one network namespace."""

    def fileno(self) -> int:
        """A descriptor that is readable when somebody changed something."""

    def drain(self) -> None:
        """Forget the changes that were reported so far."""

    def load(self, script: str) -> None:
        """Run a script as one transaction. Raises OSError."""

    def has_table(self, family: str) -> bool:
        """Whether our table of this family is there, with its rules."""

    def close(self) -> None:
        """Let go of the descriptors."""


class NftCommand:
    """The `nft` command, in the network namespace of the thread that makes this object."""

    def __init__(self) -> None:
        self._events = ChangeFeed(_NETLINK_NETFILTER, [_NFNLGRP_NFTABLES])

    def fileno(self) -> int:
        """A descriptor that is readable when somebody changed something."""
        return self._events.fileno()

    def drain(self) -> None:
        """Forget the changes that were reported so far."""
        self._events.drain()

    def load(self, script: str) -> None:
        """Run a script as one transaction. Raises OSError."""
        self._run("-f", "-", stdin=script)

    def has_table(self, family: str) -> bool:
        """Whether our table of this family is there, with its rules."""
        try:
            listing = self._run("list", "table", family, TABLE)
        except OSError:
            return False
        return "ct state" in listing if family == "inet" else "drop" in listing

    def close(self) -> None:
        """Let go of the descriptors."""
        self._events.close()

    @staticmethod
    def _run(*arguments: str, stdin: str = "") -> str:
        command = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
        if command is None:
            raise FileNotFoundError(errno.ENOENT, "nft is missing: install the package nftables")
        done = subprocess.run([command, *arguments], input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(errno.EIO, f"nft: {done.stderr.strip() or done.returncode}")
        return done.stdout


class Tables:
    """Keeps both tables as they should be; `reconcile` sets them up and repairs them.

    The bridge table is there only while a pod has a port on a bridge.
    """

    def __init__(self, nftables: Nftables) -> None:
        self._nftables = nftables
        self._ports: frozenset[int] | None = None

    def reconcile(self, bridge_ports: Collection[int], *, disturbed: bool) -> None:
        """Make the tables right for these pods' ports on bridges. Raises OSError where the kernel refuses
        one.

        `disturbed`: somebody else changed something, so look at what is there.
        """
        ports = frozenset(bridge_ports)
        first = self._ports is None
        if first or (disturbed and not self._nftables.has_table("inet")):
            self._nftables.load(_CONNTRACK)
        lost = disturbed and bool(ports) and not self._nftables.has_table("bridge")
        if ports and (ports != self._ports or lost):
            self._nftables.load(_NO_TAGS.replace("ELEMENTS", ", ".join(map(str, sorted(ports)))))
        elif not ports and (first or self._ports):
            self._nftables.load(_NOTHING.format(family="bridge"))
        self._ports = ports

    def remove(self) -> None:
        """Take both tables away."""
        for family in ("inet", "bridge"):
            self._nftables.load(_NOTHING.format(family=family))
        self._ports = None
