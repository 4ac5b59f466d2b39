# SPDX-License-Identifier: Apache-2.0
"""Links of netfilter and XDP programs: the raw calls, and what a refusal means."""

from __future__ import annotations

import enum
import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wildcard_operator.datapath.errors import DatapathError, Shortfall
from wildcard_operator.wildcardmap import bpfsys

if TYPE_CHECKING:
    from wildcard_operator.datapath.host import Link

NETFILTER_PROGRAM: Final = 32  # BPF_PROG_TYPE_NETFILTER
NETFILTER_ATTACH: Final = 45  # BPF_NETFILTER
_XDP_ATTACH: Final = 37  # BPF_XDP
_IP_DEFRAG: Final = 1  # BPF_F_NETFILTER_IP_DEFRAG: whole datagrams, so every packet has its ports
_LINK_INFO: Final = struct.Struct("=III4xI")  # type, id, program id, then an XDP link's interface


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook of netfilter; `number` and `protocol` are the kernel's."""

    name: str
    program: str
    protocol: int
    number: int


HOOKS: Final = (
    Hook("v4_post_routing", "policy_v4", 2, 4),
    Hook("v6_post_routing", "policy_v6", 10, 4),
    Hook("v4_local_in", "policy_v4", 2, 1),
    Hook("v6_local_in", "policy_v6", 10, 1),
)


class XdpMode(enum.IntEnum):
    """How an XDP program is run: by the driver, or by the stack on behalf of a driver that can't."""

    GENERIC = 2
    NATIVE = 4


def attach_netfilter(program_fd: int, hook: Hook, priority: int) -> int:
    """Attach in this thread's network namespace; returns the link. Raises DatapathError."""
    options = struct.pack("=IIiI", hook.protocol, hook.number, priority, _IP_DEFRAG)
    try:
        return bpfsys.link_create(program_fd, NETFILTER_ATTACH, 0, options)
    except OSError as error:
        if error.errno == errno.EBUSY:
            message = (
                f"another program has priority {priority} at {hook.name}: is a second agent running here?"
            )
            raise DatapathError(Shortfall.HOOK_IN_USE, message, hook.name) from error
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            message = (
                f"the kernel attaches no netfilter programs ({error}): it needs CONFIG_NETFILTER_BPF_LINK"
            )
            raise DatapathError(Shortfall.KERNEL_CONFIGURATION, message, hook.name) from error
        raise


def attach_xdp(program_fd: int, link: Link) -> tuple[int, XdpMode]:
    """Attach to an interface, by its driver where that is hardware; never in another program's place.

    Native XDP on a virtual interface costs its traffic more than it saves, so those get the generic one.
    """
    modes = (XdpMode.GENERIC,) if link.kind else (XdpMode.NATIVE, XdpMode.GENERIC)
    for mode in modes:
        try:
            return bpfsys.link_create(program_fd, _XDP_ATTACH, link.index, b"", flags=mode), mode
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EEXIST):
                message = (
                    f"{link.name} has somebody else's XDP program, which stays: its filters do not apply"
                )
                raise DatapathError(Shortfall.OTHER_XDP_PROGRAM, message, link.name) from error
            if mode is XdpMode.GENERIC:
                message = f"no XDP program can be attached to {link.name}: {error}"
                raise DatapathError(Shortfall.KERNEL_CONFIGURATION, message, link.name) from error
    raise AssertionError("unreachable: the last mode returns or raises")


def interface_of_link(fd: int) -> int:
    """The index of the interface that an XDP link is attached to; 0 when that is gone."""
    *_, ifindex = _LINK_INFO.unpack(bpfsys.object_info(fd, _LINK_INFO.size))
    return int(ifindex)
