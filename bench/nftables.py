# SPDX-License-Identifier: Apache-2.0
"""Measure an nftables concatenated interval set, the kernel's own multi-field classifier, on a rule set.

Runs itself in a network namespace of its own (``unshare --net``), where frames go over a veth pair into a
netdev ingress chain that looks each packet up in the set many times over. The time of the same chain without
these lookups is taken off. The set knows no priorities and takes no entry that overlaps an earlier one, so it
gets the rules that are disjoint from those before them.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sets

if TYPE_CHECKING:
    import numpy.typing as npt

ROUNDS = 3
ETH_P_ALL = 3
OUTER, INNER = "bench-out", "bench-in"


@dataclass(frozen=True, slots=True)
class Nftables:
    """What was measured: the entries taken, and the rules left out because they overlap one of these."""

    rules: int
    overlapping: int
    load_s: float
    ns_per_lookup: float
    hits: float


def measure(shape: str, family: int, count: int, timeout_s: float = 120) -> Nftables | None:
    """Measure a five-tuple shape; None where nft does not finish in time."""
    command = ["unshare", "--net", sys.executable, __file__, shape, str(family), str(count)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return None
    return Nftables(**json.loads(done.stdout))


def disjoint(rules: sets.Boxes) -> sets.Boxes:
    """The rules that overlap none of those kept before them."""
    low, high = (np.stack(sets.words(side, rules), axis=1) for side in (rules.low, rules.high))
    kept = np.empty(len(rules), np.int64)
    count = 0
    for row in range(len(rules)):
        near = kept[:count]
        for word in range(low.shape[1]):
            near = near[(low[near, word] <= high[row, word]) & (low[row, word] <= high[near, word])]
        if not len(near):
            kept[count] = row
            count += 1
    return rules.take(kept[:count])


def _element(rules: sets.Boxes, row: int) -> str:
    parts = []
    for index, (kind, size, offset) in enumerate(rules.fields):
        low = rules.low[row, offset : offset + size].tobytes()
        high = rules.high[row, offset : offset + size].tobytes()
        if kind == "prefix":
            parts.append(f"{ipaddress.ip_address(low)}/{rules.lengths[row, index]}")
        elif low == high:
            parts.append(str(int.from_bytes(low, "big")))
        else:
            parts.append(f"{int.from_bytes(low, 'big')}-{int.from_bytes(high, 'big')}")
    return " . ".join(parts)


def _run(*command: str, text: str | None = None) -> str:
    return subprocess.run(command, check=True, input=text, text=True, stdout=subprocess.PIPE).stdout


def _repeats(rules: sets.Boxes) -> int:
    """Lookups a packet: one in a large set takes microseconds, in a small one less than sending does."""
    return max(1, min(64, 64_000 // len(rules)))


def _ruleset(rules: sets.Boxes, family: int) -> str:
    name = "ip" if family == 4 else "ip6"
    key = f"{name} saddr . {name} daddr . th sport . th dport . meta l4proto"
    elements = ",\n".join(_element(rules, row) for row in range(len(rules)))
    return f"""
table netdev bench {{
    set rules {{ typeof {key}; flags interval; elements = {{ {elements} }} }}
    chain lookup {{ {f"{key} @rules continue; " * _repeats(rules)} }}
    chain ingress {{ type filter hook ingress device {INNER} priority 0; policy drop; {key} @rules counter; }}
}}
"""


def _frame(packet: npt.NDArray[np.uint8], family: int) -> bytes:
    """An Ethernet frame with the packet's addresses, protocol and ports."""
    size = 4 if family == 4 else 16
    addresses, ports, protocol = bytes(packet[: 2 * size]), bytes(packet[2 * size : -1]), int(packet[-1])
    payload = ports + bytes(28)
    if family == 4:
        header = bytes([0x45, 0, 0, 20 + len(payload), 0, 0, 0, 0, 64, protocol, 0, 0]) + addresses
        return b"\xff" * 6 + bytes(6) + b"\x08\x00" + header + payload
    header = bytes([0x60, 0, 0, 0, 0, len(payload), protocol, 64]) + addresses
    return b"\xff" * 6 + bytes(6) + b"\x86\xdd" + header + payload


def _best_time(sender: socket.socket, frames: list[bytes]) -> float:
    """Seconds for sending all frames, the best of `ROUNDS`: the receiving side runs in the same call."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for frame in frames:
            sender.send(frame)
        times.append(time.perf_counter() - start)
    return min(times)


def _counted() -> int:
    listing = json.loads(_run("nft", "-j", "list", "chain", "netdev", "bench", "ingress"))
    expressions = next(item["rule"]["expr"] for item in listing["nftables"] if "rule" in item)
    return int(next(item["counter"]["packets"] for item in expressions if "counter" in item))


def main(shape: str, family: int, count: int) -> Nftables:
    """Load and measure in this process's network namespace."""
    made = sets.make_rules(shape, family, count)
    rules = disjoint(made)
    frames = [_frame(packet, family) for packet in sets.make_packets(made)]
    _run("ip", "link", "add", OUTER, "type", "veth", "peer", "name", INNER)
    for device in (OUTER, INNER):
        Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")
        _run("ip", "link", "set", device, "up")
    ruleset = _ruleset(rules, family)
    start = time.perf_counter()
    _run("nft", "-f", "-", text=ruleset)
    load = time.perf_counter() - start
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as sender:
        sender.bind((OUTER, 0))
        empty = _best_time(sender, frames)
        hits = _counted() / (ROUNDS * len(frames))
        _run("nft", "insert", "rule", "netdev", "bench", "ingress", "jump", "lookup")
        full = _best_time(sender, frames)
    lookup = (full - empty) / len(frames) / _repeats(rules)
    return Nftables(len(rules), len(made) - len(rules), load, lookup * 1e9, hits)


if __name__ == "__main__":
    print(json.dumps(asdict(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
