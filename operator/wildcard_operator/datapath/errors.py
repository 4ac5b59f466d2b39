# SPDX-License-Identifier: Apache-2.0
"""Why a node can't enforce something: a reason for machines, a sentence for people."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Shortfall(enum.StrEnum):
    """What is missing."""

    KERNEL_TOO_OLD = "KernelTooOld"
    KERNEL_CONFIGURATION = "KernelConfiguration"
    MISSING_CAPABILITY = "MissingCapability"
    NO_BPFFS = "NoBpffs"
    OTHER_LAYOUT = "OtherLayout"
    HOOK_IN_USE = "HookInUse"
    OTHER_XDP_PROGRAM = "OtherXdpProgram"
    NO_SUCH_INTERFACE = "NoSuchInterface"
    NO_BRIDGE_NETFILTER = "NoBridgeNetfilter"
    NO_NFTABLES = "NoNftables"
    LOAD_FAILED = "LoadFailed"


@dataclass(frozen=True, slots=True, order=True)
class NodeCondition:
    """Something that the node can't do now; `subject` is an interface, a bridge or a hook, "" for the whole
    node."""

    reason: Shortfall
    subject: str
    message: str


class DatapathError(Exception):
    """The node can't enforce at all, or not this; carries the condition."""

    def __init__(self, reason: Shortfall, message: str, subject: str = "") -> None:
        super().__init__(message)
        self.condition = NodeCondition(reason, subject, message)
