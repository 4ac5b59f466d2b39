# SPDX-License-Identifier: Apache-2.0
"""Open UDP ports on interfaces, close the others; print the ranges' counters at the end (Ctrl-C).

    load.py INTERFACE=RANGE[,RANGE...] ... [--object=FILE]

A range is ``53`` or ``8000-8999``. The program is attached to every interface named, by links which go with
this process.
"""

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

from wildcard_operator.wildcardmap import WildcardMap, bpfsys
from wildcard_operator.wildcardmap.libbpf import BpfObject

BUILT = Path(__file__).resolve().parents[2] / "build" / "examples" / "ports.bpf.o"
BPF_XDP = 37  # enum bpf_attach_type


def main(arguments: list[str]) -> None:
    """Attach, wait for Ctrl-C, print what came through."""
    options = dict(argument.split("=", 1) for argument in arguments)
    path = Path(options.pop("--object", str(BUILT)))
    opened = [
        (interface, word, [int(port) for port in word.split("-")])
        for interface, words in options.items()
        for word in words.split(",")
    ]
    with WildcardMap.of_object(path, "open_ports", max_entries=1024) as ports, BpfObject(path) as program:
        ports.bind(program, "open_ports")
        program.reuse_map("services", ports.group.group_fd)
        program.load()
        with ports.batch() as changes:
            for rule_id, (interface, _, bounds) in enumerate(opened):
                rule = (socket.if_nametoindex(interface), (bounds[0], bounds[-1]))
                changes.update(rule, bytes(8), rule_id=rule_id)
        links = [
            bpfsys.link_create(program.program_fd("ports"), BPF_XDP, socket.if_nametoindex(name), bytes(48))
            for name in options
        ]
        with contextlib.suppress(KeyboardInterrupt):
            print("attached", flush=True)
            signal.pause()
        for (interface, word, _), (packets, size) in zip(opened, ports.counters().tolist(), strict=False):
            print(f"{packets:>10} packets {size:>12} bytes  {interface} {word}")
        for link in links:
            os.close(link)


if __name__ == "__main__":
    main(sys.argv[1:])
