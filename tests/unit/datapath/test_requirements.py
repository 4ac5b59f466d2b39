# SPDX-License-Identifier: Apache-2.0
"""What is missing is named before anything is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from wildcard_operator.datapath.errors import DatapathError, Shortfall
from wildcard_operator.datapath.pins import Pins, build_of
from wildcard_operator.datapath.requirements import check_bpffs, check_capabilities, check_kernel

NEEDED = 1 << 12 | 1 << 38 | 1 << 39


def status(capabilities: int) -> str:
    return f"Name:\tx\nCapPrm:\t0\nCapEff:\t{capabilities:016x}\n"


def test_the_three_capabilities_are_enough() -> None:
    check_capabilities(status(NEEDED))


@pytest.mark.parametrize(("bit", "name"), [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")])
def test_a_missing_capability_is_named(bit: int, name: str) -> None:
    with pytest.raises(DatapathError, match=name) as refused:
        check_capabilities(status(NEEDED & ~(1 << bit)))

    assert refused.value.condition.reason is Shortfall.MISSING_CAPABILITY


@pytest.mark.parametrize("release", ["6.6.0", "6.18.44-fc", "7.0.0-rc1"])
def test_a_kernel_that_is_new_enough_passes(release: str) -> None:
    check_kernel(release)


@pytest.mark.parametrize("release", ["5.15.0-generic", "6.5.13", "something"])
def test_an_older_kernel_is_refused_with_what_it_would_need(release: str) -> None:
    with pytest.raises(DatapathError, match=r"6\.6"):
        check_kernel(release)


def test_pins_need_a_bpffs() -> None:
    mounts = "sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\ntmpfs /sys/fs/bpf/not tmpfs rw 0 0\n"
    check_bpffs(Path("/sys/fs/bpf/wildcard"), mounts)
    for folder in ("/sys/fs", "/sys/fs/bpfother", "/sys/fs/bpf/not/here"):
        with pytest.raises(DatapathError, match="mount -t bpf"):
            check_bpffs(Path(folder), mounts)


def test_a_newer_layout_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "wildcard-operator" / "v3").mkdir(parents=True)

    with pytest.raises(DatapathError, match="layout 3") as refused:
        Pins(tmp_path, 2).create()
    assert refused.value.condition.reason is Shortfall.OTHER_LAYOUT


def test_slots_of_every_layout_are_found(tmp_path: Path) -> None:
    old, new = Pins(tmp_path, 1), Pins(tmp_path, 2)
    old.create()
    former = old.slot(0, build_of(b"old"))
    new.create()
    mine = new.slot(1, build_of(b"new"))

    assert new.slots() == [former, mine]
    assert (former.bit, mine.bit) == (1, 2)
    new.drop_older_layouts()
    assert new.slots() == [mine]
