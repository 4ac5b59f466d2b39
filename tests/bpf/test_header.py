# SPDX-License-Identifier: Apache-2.0
"""The header in programs that it does not know: they verify, and cost what the guide says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.bpfbuild import ROOT, compile_bpf
from support.verifier import Verified, verify
from wildcard_operator.wildcardmap.libbpf import BpfObject

PROGRAMS = Path(__file__).parent / "programs"
GUIDE = ROOT / "docs" / "wildcard-map.md"
HEADER = ROOT / "bpf" / "wildcard.h"


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


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Verified]:
    """What a program with one lookup costs, by the number of fields."""
    path = compile_bpf(PROGRAMS / "every_count.bpf.c", tmp_path_factory.mktemp("programs"))
    return {count: verify(path, f"look_up_{count}") for count in range(1, 10)}


def test_a_lookup_costs_the_verifier_no_more_than_the_guide_says(costs: dict[int, Verified]) -> None:
    found = re.findall(r"^  \| \d.*\| ([\d,]+) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    bounds = [int(number.replace(",", "")) for number in found]
    instructions = [costs[count].instructions for count in (1, 5, 8, 9)]

    assert len(bounds) == len(instructions)
    assert all(cost <= bound for cost, bound in zip(instructions, bounds, strict=True)), instructions


@pytest.mark.parametrize("where", [GUIDE, HEADER], ids=lambda path: path.name)
def test_a_lookup_takes_the_stack_that_is_promised(costs: dict[int, Verified], where: Path) -> None:
    promise = re.search(r"(\d+) of the 512 bytes", where.read_text(encoding="utf-8"))
    # The kernel counts frames in steps of 16 bytes; the first one is the caller's.
    most = max(sum(-(-frame // 16) * 16 for frame in cost.frames[1:]) for cost in costs.values())

    assert promise is not None
    assert most <= int(promise[1]) <= most + 32
