# SPDX-License-Identifier: Apache-2.0
"""Write figures into a document: sections between markers, tables, and what machine it was."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
PERFORMANCE = ROOT / "docs" / "performance.md"


def replace_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers of section `name`; a document without them gets them at its end."""
    begin, end = f"<!-- {name}: begin, generated -->", f"<!-- {name}: end -->"
    document = path.read_text(encoding="utf-8") if path.exists() else "# Performance\n"
    section = f"{begin}\n\n{text.strip()}\n\n{end}"
    if begin in document:
        head, _, rest = document.partition(begin)
        document = head + section + rest.partition(end)[2]
    else:
        document = f"{document.rstrip()}\n\n{section}\n"
    path.write_text(document, encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """A Markdown table, the first `left` columns aligned to the left and the others to the right."""
    rules = ["---" if index < left else "--:" for index in range(len(header))]
    lines = [header, rules, *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine() -> str:
    """One sentence: processor, memory, kernel, compiler, date."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii")
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    clang = subprocess.run(
        [os.environ.get("CLANG", "clang-19"), "--version"], check=True, capture_output=True, text=True
    ).stdout.splitlines()[0]
    virtual = ", a virtual machine" if "hypervisor" in cpuinfo else ""
    return (
        f"{os.cpu_count()} CPUs ({model[1] if model else platform.machine()}{virtual}), {memory:.0f} GiB, "
        f"Linux {platform.release().partition('-')[0]}, {clang}, {date.today().isoformat()}."
    )
