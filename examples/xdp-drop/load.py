# SPDX-License-Identifier: Apache-2.0
"""Drop the IPv4 packets on an interface that match a list; print the rules' counters at the end (Ctrl-C).

    load.py INTERFACE RULES [OBJECT]

A line of RULES is ``SOURCE DESTINATION SOURCE_PORT DESTINATION_PORT``: networks and ranges like ``80`` or
``8000-8999``, each may be ``any``. The program is attached by a link, which goes with this process.
"""

import contextlib
import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path

from wildcard_operator.wildcardmap import ANY, RuleArrays, WildcardMap, bpfsys
from wildcard_operator.wildcardmap.libbpf import BpfObject
from wildcard_operator.wildcardmap.rules import FieldRule

BUILT = Path(__file__).resolve().parents[2] / "build" / "examples" / "drop.bpf.o"
BPF_XDP = 37  # enum bpf_attach_type


def network(word: str) -> FieldRule:
    """A network or ``any``."""
    return ANY if word == "any" else ipaddress.ip_network(word)


def ports(word: str) -> FieldRule:
    """A port, a range or ``any``."""
    if word == "any":
        return ANY
    low, _, high = word.partition("-")
    return int(low), int(high or low)


def main(interface: str, rules_file: str, built: str = str(BUILT)) -> None:
    """Attach, wait for Ctrl-C, print what was dropped."""
    lines = [line for line in Path(rules_file).read_text(encoding="utf-8").splitlines() if line.strip()]
    rules = []
    for line in lines:
        source, destination, source_ports, destination_ports = line.split()
        rules.append((network(source), network(destination), ports(source_ports), ports(destination_ports)))
    path = Path(built)
    with (
        WildcardMap.of_object(path, "deny", max_entries=max(1, len(rules))) as deny,
        BpfObject(path) as program,
    ):
        deny.bind(program, "deny")
        program.reuse_map("filters", deny.group.group_fd)
        program.load()
        # Without priorities of their own the rules are of one priority: all of them drop.
        values = [bytes(8)] * len(rules)
        deny.load(RuleArrays.from_rules(deny.description, rules, rule_ids=range(len(rules)), values=values))
        link = bpfsys.link_create(
            program.program_fd("drop"), BPF_XDP, socket.if_nametoindex(interface), bytes(48)
        )
        with contextlib.suppress(KeyboardInterrupt):
            print("attached", flush=True)
            signal.pause()
        for line, (packets, size) in zip(lines, deny.counters().tolist(), strict=False):
            print(f"{packets:>10} packets {size:>12} bytes  {line}")
        os.close(link)


if __name__ == "__main__":
    main(*sys.argv[1:])
