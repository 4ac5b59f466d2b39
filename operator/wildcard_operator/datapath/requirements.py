# SPDX-License-Identifier: Apache-2.0
"""What enforcement needs of the kernel and of the process, checked before anything is touched."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Final

from wildcard_operator.datapath.errors import DatapathError, Shortfall

NETFILTER_PROGRAMS: Final = (6, 6)
_CAPABILITIES: Final = {
    "CAP_NET_ADMIN": (12, "attaches programs, and sets up bridges and connection tracking"),
    "CAP_PERFMON": (38, "lets the kernel's verifier accept what a compiler emits"),
    "CAP_BPF": (39, "makes maps and loads programs"),
}
_BPF_FS_MAGIC: Final = "bpf"


def check_capabilities(status: str | None = None) -> None:
    """Raise DatapathError naming every capability that this process lacks.

    `status` is the text of /proc/self/status, read where it is not given.
    """
    text = status if status is not None else Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", text, re.MULTILINE)
    effective = int(found[1], 16) if found else 0
    lacking = [f"{name} ({use})" for name, (bit, use) in _CAPABILITIES.items() if not effective >> bit & 1]
    if lacking:
        raise DatapathError(Shortfall.MISSING_CAPABILITY, f"missing: {'; '.join(lacking)}")


def check_kernel(release: str | None = None) -> None:
    """Raise DatapathError where the kernel is too old for netfilter programs; `release` as of `uname -r`."""
    text = release or platform.release()
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < NETFILTER_PROGRAMS:
        wanted = ".".join(map(str, NETFILTER_PROGRAMS))
        message = (
            f"policies for pods need Linux {wanted} or later, this is {text}; filters of nodes work (Ingress)"
        )
        raise DatapathError(Shortfall.KERNEL_TOO_OLD, message)


def check_bpffs(folder: Path, mounts: str | None = None) -> None:
    """Raise DatapathError unless `folder` lies on a bpffs. `mounts` is the text of /proc/self/mounts."""
    text = mounts if mounts is not None else Path("/proc/self/mounts").read_text(encoding="utf-8")
    real = os.path.realpath(folder)
    best = ("", "")
    for line in text.splitlines():
        _device, point, kind, *_ = line.split()
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = point, kind
    if best[1] != _BPF_FS_MAGIC:
        raise DatapathError(Shortfall.NO_BPFFS, f"{folder} is not on a bpffs: mount -t bpf bpf {folder}")
