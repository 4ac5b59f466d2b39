# SPDX-License-Identifier: Apache-2.0
"""The traffic of the node's benchmark: what a node's pods get through, and what a program costs a packet."""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from support.wire import mac_of
from wildcard_operator.wildcardmap import bpfsys

if TYPE_CHECKING:
    from support.topology import Node
    from wildcard_operator.wildcardmap.libbpf import BpfObject

_RUN = struct.Struct("=IIIIQQIIIIQQIII")
_LIVE = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES
_CHUNK = bytes(1 << 20)


def run_program(fd: int, frame: bytes, repeat: int, ifindex: int, *, live: bool = False) -> float:
    """Run an XDP program over a frame that came in at an interface; nanoseconds of this core a run.

    `live`: what the program passes goes on into the stack, as if it had come from the wire. The clock counts
    what this thread has of the processor, so others who use the machine disturb it little.
    """
    data = ctypes.create_string_buffer(frame, len(frame))
    context = ctypes.create_string_buffer(struct.pack("=6I", 0, len(frame), 0, ifindex, 0, 0), 24)
    places = ctypes.addressof(data), ctypes.addressof(context)
    flags, batch = (_LIVE, 64) if live else (0, 0)
    attr = _RUN.pack(fd, 0, len(frame), 0, places[0], 0, repeat, 0, 24, 0, places[1], 0, flags, 0, batch)
    started = time.thread_time()
    bpfsys.call(bpfsys.Command.PROG_TEST_RUN, attr, "run program")
    return (time.thread_time() - started) / repeat * 1e9


def throughput(node: Node, seconds: float) -> float:
    """TCP from pod a to pod b; gigabits a second."""
    address = node.pods["b"].address(4)
    with node.pods["b"].netns.entered():
        listener = socket.create_server((address, 5001))
    with node.pods["a"].netns.entered():
        client = socket.socket()
    received = 0
    with listener, client:
        client.connect((address, 5001))
        server = listener.accept()[0]
        view = memoryview(bytearray(1 << 20))

        def pull() -> None:
            nonlocal received
            while count := server.recv_into(view):
                received += count

        puller = threading.Thread(target=pull)
        puller.start()
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            client.sendall(_CHUNK)
        client.shutdown(socket.SHUT_WR)
        puller.join()
        taken = time.perf_counter() - started
        server.close()
    return received * 8 / taken / 1e9


def connections(node: Node, seconds: float) -> float:
    """TCP connections from pod a to pod b, one after the other, opened and reset; a second."""
    address = node.pods["b"].address(4)
    with node.pods["b"].netns.entered():
        listener = socket.create_server((address, 5002), backlog=1024)
    done = 0
    with listener:
        listener.setblocking(False)
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            with node.pods["a"].netns.entered():
                clients = [socket.socket() for _ in range(50)]
            for client in clients:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.connect((address, 5002))
                listener.accept()[0].close()
                client.close()
            done += len(clients)
        return done / (time.perf_counter() - started)


def forwarding(node: Node, injector: BpfObject, packets: int) -> float:
    """UDP datagrams of one flow from pod a's interface through the node to a socket of pod b; a second of one
    core. Nobody reads the socket: what a datagram costs beyond its place in the queue is the reader's.
    """
    pod = node.pods["a"]
    peer = mac_of(node.netns, pod.host_ifname) if node.cni == "ptp" else mac_of(node.pods["b"].netns, "eth0")
    frame = Ether(dst=peer, src=mac_of(pod.netns, "eth0"))
    frame /= (
        IP(src=pod.address(4), dst=node.pods["b"].address(4)) / UDP(sport=4000, dport=9, chksum=0) / bytes(18)
    )
    with node.pods["b"].netns.entered():
        receiver = socket.socket(type=socket.SOCK_DGRAM)
        receiver.bind((node.pods["b"].address(4), 9))
    with receiver, node.netns.entered():
        bpfsys.map_update(injector.map_fd("frame"), bytes(4), bytes(frame)[:34])
        return 1e9 / run_program(
            injector.program_fd("inject"), bytes(frame), packets, pod.host_index, live=True
        )
