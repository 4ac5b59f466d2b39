# SPDX-License-Identifier: Apache-2.0
"""The header in programs that it does not know: they verify, and cost what the guide says."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from support.bpfbuild import ROOT, compile_bpf
from wildcard_operator.wildcardmap import bpfsys
from wildcard_operator.wildcardmap.libbpf import BpfObject

PROGRAMS = Path(__file__).parent / "programs"


def test_maps_of_one_to_nine_fields_verify(tmp_path: Path) -> None:
    with BpfObject(compile_bpf(PROGRAMS / "every_count.bpf.c", tmp_path)) as loaded:
        loaded.load()

        assert all(loaded.program_fd(f"look_up_{count}") > 0 for count in range(1, 10))


def test_several_maps_verify_beside_a_program_s_own_stack_and_maps(tmp_path: Path) -> None:
    with BpfObject(compile_bpf(PROGRAMS / "unforeseen.bpf.c", tmp_path)) as loaded:
        loaded.load()

        assert loaded.program_fd("classify") > 0


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("RANGE, struct sixteen, a", "a field has 1, 2, 4, 8 or (unless RANGE) 16 bytes"),
        ("MATCH, struct three, a", "a field has 1, 2, 4, 8 or (unless RANGE) 16 bytes"),
        ("TERNARY, __u32, a", "WILDCARD_KIND_TERNARY"),
    ],
)
def test_a_field_that_cannot_be_does_not_compile(tmp_path: Path, field: str, message: str) -> None:
    source = tmp_path / "bad.bpf.c"
    source.write_text(
        '#include "vmlinux.h"\n#include <bpf/bpf_helpers.h>\n#include "wildcard.h"\n'
        "struct sixteen { __u64 half[2]; };\nstruct three { __u8 byte[3]; };\n"
        f"WILDCARD_DESC_1(bad, {field});\n"
    )

    with pytest.raises(AssertionError) as caught:
        compile_bpf(source, tmp_path)

    assert message in str(caught.value)


def test_a_key_of_more_than_128_bytes_does_not_compile(tmp_path: Path) -> None:
    source = tmp_path / "bad.bpf.c"
    fields = ", ".join(f"MATCH, struct sixteen, f{index}" for index in range(9))
    source.write_text(
        '#include "vmlinux.h"\n#include <bpf/bpf_helpers.h>\n#include "wildcard.h"\n'
        f"struct sixteen {{ __u64 half[2]; }};\nWILDCARD_DESC_9(bad, {fields});\n"
    )

    with pytest.raises(AssertionError, match="a key has at most 128 bytes"):
        compile_bpf(source, tmp_path)


def test_a_lookup_costs_the_verifier_no_more_than_the_guide_says(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "wildcard-map.md").read_text(encoding="utf-8")
    found = re.findall(r"^  \| \d.*\| ([\d,]+) \|$", guide, re.MULTILINE)
    bounds = [int(number.replace(",", "")) for number in found]
    with BpfObject(compile_bpf(PROGRAMS / "every_count.bpf.c", tmp_path)) as loaded:
        loaded.load()
        verified = [verified_instructions(loaded.program_fd(f"look_up_{count}")) for count in (1, 5, 8, 9)]

    assert len(bounds) == len(verified)
    assert all(0 < cost <= bound for cost, bound in zip(verified, bounds, strict=True)), verified


def verified_instructions(program_fd: int) -> int:
    """What the kernel's struct bpf_prog_info says behind its first 216 bytes."""
    (count,) = struct.unpack_from("=I", bpfsys.object_info(program_fd, 232), 216)
    return int(count)
