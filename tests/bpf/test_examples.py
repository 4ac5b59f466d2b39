# SPDX-License-Identifier: Apache-2.0
"""The examples, as their READMEs run them, on veth pairs between namespaces."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from support.bpfbuild import ROOT, compile_bpf
from support.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXAMPLES = ROOT / "examples"


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    """A host with interfaces h0 and h1, and a peer with p0 and p1 on their other sides."""
    with Namespace("host") as host, Namespace("peer") as peer:
        for number in (0, 1):
            inside, outside = host.veth(f"h{number}", peer, f"p{number}")
            host.address(inside, f"10.{number}.0.1/24")
            peer.address(outside, f"10.{number}.0.2/24", f"10.{number}.0.3/24")
        yield host, peer


@contextmanager
def running(host: Namespace, *command: str) -> Iterator[list[str]]:
    """A loader in the host; the list is filled with what it prints at the end."""
    printed: list[str] = []
    # A test run in a shell's background ignores SIGINT, and its children would as well.
    ready = ["env", "--default-signal=INT", sys.executable, *command]
    process = host.spawn(ready, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first == "attached\n", process.communicate(timeout=30)[1]
            yield printed
            process.send_signal(signal.SIGINT)
            printed.extend(process.communicate(timeout=30)[0].splitlines())
            assert process.returncode == 0
        finally:
            process.kill()


def bound(namespace: Namespace, address: str, port: int) -> socket.socket:
    with namespace.entered():
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, port))
    made.settimeout(10)
    return made


def arrived(receiver: socket.socket) -> list[bytes]:
    """The datagrams up to the one that says `last`."""
    found = []
    while (data := receiver.recv(64)) != b"last":
        found.append(data)
    return found


def test_xdp_drop_drops_what_matches_and_counts_it(ends: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    host, peer = ends
    program = compile_bpf(EXAMPLES / "xdp-drop" / "drop.bpf.c", tmp_path)
    rules = tmp_path / "rules"
    rules.write_text("10.0.0.3/32 any any 5000-5099\nany 10.0.0.1/32 666 any\n")
    load = str(EXAMPLES / "xdp-drop" / "load.py")
    with (
        bound(host, "10.0.0.1", 5050) as inside,
        bound(host, "10.0.0.1", 5100) as beside,
        bound(peer, "10.0.0.2", 700) as good,
        bound(peer, "10.0.0.3", 700) as bad,
        bound(peer, "10.0.0.2", 666) as evil,
        running(host, load, "h0", str(rules), str(program)) as printed,
    ):
        for receiver in (inside, beside):
            for sender, name in ((bad, b"bad"), (evil, b"evil"), (good, b"good"), (good, b"last")):
                sender.sendto(name, receiver.getsockname())
        assert arrived(inside) == [b"good"]
        assert arrived(beside) == [b"bad", b"good"]

    assert [line.split()[:2] for line in printed] == [["1", "packets"], ["2", "packets"]]
    # A frame of 14 + 20 + 8 bytes and the datagram.
    assert [line.split()[2] for line in printed] == ["45", str(2 * 46)]


def test_port_ranges_opens_ports_by_interface(ends: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    host, peer = ends
    program = compile_bpf(EXAMPLES / "port-ranges" / "ports.bpf.c", tmp_path)
    load = str(EXAMPLES / "port-ranges" / "load.py")
    with running(host, load, "h0=53,8000-8010", "h1=8010", f"--object={program}") as printed:
        for number, open_ports in ((0, {53, 8000, 8010}), (1, {8010})):
            address = f"10.{number}.0.1"
            receivers = {port: bound(host, address, port) for port in (53, 7999, 8000, 8010, 8011)}
            with bound(peer, f"10.{number}.0.2", 4000) as sender:
                for port in receivers:
                    sender.sendto(b"last", (address, port))
                # Packets of a veth pair keep their order: what has not come when 8010 has was dropped.
                assert receivers[8010].recv(64) == b"last"
            for port, receiver in receivers.items():
                receiver.setblocking(False)
                if port != 8010:
                    assert _has_one(receiver) == (port in open_ports), port
                receiver.close()

    assert [line.split()[0] for line in printed] == ["1", "2", "1"]


def _has_one(receiver: socket.socket) -> bool:
    try:
        return receiver.recv(64) == b"last"
    except BlockingIOError:
        return False
