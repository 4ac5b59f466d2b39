# SPDX-License-Identifier: Apache-2.0
"""What enforcement costs on a node: throughput, connections, packets, XDP, latency of a change, the agent
itself.

    python bench/node.py [--rounds 15] [--seconds 0.3] [--rules 10000]

Each contestant has a node of its own out of namespaces, so nothing is set up between measurements; rounds go
over all of them in turn, and what is reported are medians of ratios within a round. Connections are tracked
on every node. Writes docs/performance-node.md.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import struct
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from document import ROOT, machine, replace_section, table
from rich.progress import Progress
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from traffic import connections, forwarding, run_program, throughput

from support.agents import AgentProcess, LocalAgent, Manifests
from support.bpfbuild import compile_bpf
from support.bpffs import mounted_bpffs
from support.objects import pod_object, policy, wildcard_filter
from support.topology import Cni, Fabric, Node
from wildcard_operator.datapath.abi import PREFILTER_OBJECT, abi
from wildcard_operator.datapath.maps import Capacities, NodeMaps
from wildcard_operator.datapath.pins import Pins
from wildcard_operator.wildcardmap import bpfsys
from wildcard_operator.wildcardmap.libbpf import BpfObject

if TYPE_CHECKING:
    from collections.abc import Callable


DOCUMENT = ROOT / "docs" / "performance-node.md"
_LARGE = Capacities(rules=32768, addresses=4096)


@dataclass
class Contestant:
    """A node with pods a and b, and what its traffic has to pass."""

    name: str
    node: Node
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, figure: str, value: float) -> None:
        """Keep one round's figure."""
        self.figures.setdefault(figure, []).append(value)


def peers(rules: int) -> list[dict[str, Any]]:
    """Ingress of pod b: so many rules, of which the last lets pod a in."""
    strangers = [
        {
            "from": [{"ipBlock": {"cidr": f"100.{64 + i // 65536}.{i // 256 % 256}.{i % 256}/32"}}],
            "ports": [{"port": 1024 + i % 40000, "endPort": 1030 + i % 40000}],
        }
        for i in range(rules - 1)
    ]
    return [*strangers, {"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}]


def nft_rules(rules: int) -> str:
    """The same in nftables: an interval set over address and port, behind a jump for the pod."""
    elements = ", ".join(
        f"100.{64 + i // 65536}.{i // 256 % 256}.{i % 256} . {1024 + i % 40000}-{1030 + i % 40000}"
        for i in range(rules - 1)
    )
    return f"""
        table ip policies {{
            set strangers {{ type ipv4_addr . inet_service; flags interval; elements = {{ {elements} }} }}
            set pods {{ type ipv4_addr; elements = {{ 10.244.1.11 }} }}
            chain to-b {{
                ip saddr . th dport @strangers accept
                ip saddr @pods accept
                drop
            }}
            chain forward {{ type filter hook forward priority filter; policy accept;
                ct state established,related accept
                ip daddr 10.244.1.12 jump to-b
            }}
        }}"""


def contestants(stack: ExitStack, cni: Cni) -> list[Contestant]:
    """Nodes: without policy, ours with 10 and 10,000 rules, nftables with as many."""
    made = []
    for name in ("no policy", "ours, 10 rules", "ours, 10,000 rules", "nftables, 10", "nftables, 10,000"):
        fabric = stack.enter_context(Fabric())
        node = fabric.add_node("node-1", cni)
        for number, pod in enumerate("ab", start=11):
            node.add_pod(pod, f"10.244.1.{number}")
        rules = 10_000 if "000" in name else 10
        if name.startswith("ours"):
            agent = stack.enter_context(LocalAgent(node, capacities=_LARGE))
            pods = [pod_object(pod, node.name) for pod in node.pods.values()]
            agent.apply(*pods, policy("b", "b", ingress=peers(rules)))
        else:
            node.netns.nft("table inet track {\n chain track {\n ct state new\n }\n }")
            if cni == "bridge":
                node.netns.netlink.link("set", index=node.bridge_index, kind="bridge", br_nf_call_iptables=1)
        if name.startswith("nftables"):
            node.netns.nft(nft_rules(rules))
        made.append(Contestant(name, node))
    return made


def compare(cni: Cni, rounds: int, seconds: float) -> str:
    """A table of all contestants over one manner of attaching pods."""
    with ExitStack() as stack:
        runners = contestants(stack, cni)
        inject = BpfObject(
            compile_bpf(
                Path(__file__).with_name("node.bpf.c"),
                Path(stack.enter_context(tempfile.TemporaryDirectory())),
            )
        )
        stack.callback(inject.close)
        inject.load()
        for runner in runners:
            connections(runner.node, 0.1)  # neighbours and the bridge's table know both pods from now on
        with Progress() as progress:
            task = progress.add_task(f"{cni} pods", total=rounds * len(runners))
            for number in range(rounds):
                for runner in runners[number % len(runners) :] + runners[: number % len(runners)]:
                    runner.note("Gbit/s", throughput(runner.node, seconds))
                    runner.note("conn/s", connections(runner.node, seconds))
                    runner.note("UDP packets/s", forwarding(runner.node, inject, 300_000))
                    progress.advance(task)
    rows = []
    for runner in runners:
        row = [runner.name]
        for figure, values in runner.figures.items():
            ratios = [value / base for value, base in zip(values, runners[0].figures[figure], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            row += [f"{statistics.median(values):,.4g}", f"{middle:.3f} ({low:.3f} to {high:.3f})"]
        rows.append(row)
    header = ["", *(text for figure in runners[0].figures for text in (figure, "of no policy"))]
    return f"Pods attached by {cni}, {rounds} rounds:\n\n" + table(header, rows)


def five_tuple_filters(rules: int) -> list[dict[str, Any]]:
    """Filters of 250 rules each; rule i drops one UDP flow."""
    made = []
    for start in range(0, rules, 250):
        listed = [
            {
                "name": f"r{i}",
                "action": "Drop",
                "protocol": "UDP",
                "sources": [{"cidr": f"100.64.{i // 256}.{i % 256}/32"}],
                "destinations": [{"cidr": "192.168.50.11/32"}],
                "sourcePorts": [{"port": 1024 + i}],
                "destinationPorts": [{"port": 53}],
            }
            for i in range(start, min(start + 250, rules))
        ]
        target = {"nodes": {"interfaces": {"primary": True}}}
        made.append(wildcard_filter(f"f{start}", "Ingress", target, *listed, priority=start))
    return made


def xdp_drop_rate(rules: int, rounds: int) -> str:
    """Our prefilter with five-tuple rules against a program that looks up the source address alone."""
    with ExitStack() as stack:
        fabric = stack.enter_context(Fabric())
        node = fabric.add_node("node-1")
        agent = stack.enter_context(LocalAgent(node, capacities=_LARGE))
        agent.apply(*five_tuple_filters(rules))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        other = BpfObject(compile_bpf(Path(__file__).with_name("node.bpf.c"), folder))
        stack.callback(other.close)
        lpm = other.load().program_fd("lpm_only")
        for i in range(rules):
            key = struct.pack("=I", 32) + bytes((100, 64, i // 256, i % 256))
            bpfsys.map_update(other.map_fd("sources"), key, bytes(4))
        maps = NodeMaps(Pins(agent.bpffs, abi().layout_version), write=False)
        stack.callback(maps.close)
        ours = BpfObject(PREFILTER_OBJECT)
        stack.callback(ours.close)
        maps.bind(ours)
        mine = ours.load().program_fd("prefilter")
        frames = [
            bytes(
                Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
                / IP(src=f"100.64.{i // 256}.{i % 256}", dst="192.168.50.11")
                / UDP(sport=1024 + i, dport=53)
            ).ljust(64, b"\0")
            for i in range(0, rules, rules // 64)
        ]
        figures: dict[str, list[float]] = {"LPM trie on the source": [], f"ours, {rules:,} five-tuples": []}
        with node.netns.entered():
            for _ in range(rounds):
                for name, fd in zip(figures, (lpm, mine), strict=True):
                    spent = [run_program(fd, frame, 20_000, node.index) for frame in frames]
                    figures[name].append(1e3 / statistics.mean(spent))
    base, ours_rate = figures.values()
    ratio = statistics.median(o / b for o, b in zip(ours_rate, base, strict=True))
    rows = [[name, f"{statistics.median(values):.2f}"] for name, values in figures.items()]
    return (
        "Drops by XDP, one core, the program alone (BPF_PROG_RUN), every packet is dropped by a rule:\n\n"
        + table(["", "million packets/s"], rows)
        + f"\n\nOurs is {ratio:.2f} of the trie alone.\n"
    )


def change_latency(files: int, changes: int) -> str:
    """From a file's rename to the first packet of another fate, in a folder of so many objects; and the
    agent.
    """
    with ExitStack() as stack:
        fabric = stack.enter_context(Fabric())
        node = fabric.add_node("node-1")
        for number, name in enumerate("ab", start=11):
            node.add_pod(name, f"10.244.1.{number}")
        manifests = Manifests(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        manifests.write("pods.yaml", *(pod_object(pod, node.name) for pod in node.pods.values()))
        for number in range(files - 3):
            manifests.write(
                f"policy-{number}.yaml", policy(f"p{number}", f"other-{number}", ingress=peers(5))
            )
        manifests.write("toggle.yaml", policy("toggle", "b", ingress=[]))
        agent = stack.enter_context(
            AgentProcess(node, manifests.folder, stack.enter_context(mounted_bpffs()))
        )
        agent.wait_for_commits(1)
        idle = _cpu_seconds(agent.pid)
        time.sleep(5)
        idle = (_cpu_seconds(agent.pid) - idle) / 5
        spent = sorted(_until(node, manifests, allowed=bool(number % 2 == 0)) for number in range(changes))
        resident, mapped = _memory(agent.pid)
        samples = agent.scrape() or {}
        kernel = sum(v for (n, _), v in samples.items() if n == "wildcard_map_bytes") / (1 << 20)
    p99 = spent[min(len(spent) - 1, int(len(spent) * 0.99))]
    rows = [
        ["change of a file to enforcement, median", f"{statistics.median(spent) * 1000:.0f} ms"],
        [f"the same, p99 of {changes}", f"{p99 * 1000:.0f} ms"],
        ["agent, resident memory without the maps", f"{(resident - mapped) / 1024:.0f} MiB"],
        ["maps of the kernel that it has touched", f"{mapped / 1024:.0f} MiB"],
        ["maps in the kernel, at the default capacity", f"{kernel:.0f} MiB"],
        ["agent, idle", f"{idle * 100:.2f} % of a core"],
    ]
    return f"The agent with a folder of {files} objects:\n\n" + table(["", ""], rows)


def _until(node: Node, manifests: Manifests, *, allowed: bool) -> float:
    """Change a policy; seconds until a datagram's fate is another."""
    ends = []
    for name in "ab":
        with node.pods[name].netns.entered():
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((node.pods[name].address(4), 6000))
        made.setblocking(False)
        ends.append(made)
    sender, receiver = ends
    target = node.pods["b"].address(4), 6000
    manifests.write("toggle.yaml", policy("toggle", "b", ingress=[{}] if allowed else []))
    started = time.perf_counter()
    with sender, receiver:
        while time.perf_counter() - started < 10:
            sender.sendto(b"x", target)
            try:
                arrived = bool(receiver.recv(10))
            except BlockingIOError:
                arrived = False
            if arrived == allowed:
                return time.perf_counter() - started
            time.sleep(0.0005)
    raise TimeoutError("a change of policy never came into force")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _memory(pid: int) -> tuple[int, int]:
    """Resident memory of a process and the part of it that is maps of the kernel; KiB."""
    resident = mapped = 0
    in_map = False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="ascii").splitlines():
        if "-" in line.partition(" ")[0]:
            in_map = "bpf-map" in line
        elif line.startswith("Rss:"):
            size = int(line.split()[1])
            resident += size
            mapped += size if in_map else 0
    return resident, mapped


def main() -> None:
    """Run everything, print it, and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each TCP measurement")
    parser.add_argument("--rules", type=int, default=10_000, help="of the XDP comparison")
    options = parser.parse_args()
    sections: dict[str, Callable[[], str]] = {
        "routed": lambda: compare("ptp", options.rounds, options.seconds),
        "bridged": lambda: compare("bridge", options.rounds, options.seconds),
        "xdp": lambda: xdp_drop_rate(options.rules, options.rounds),
        "agent": lambda: change_latency(100, 100),
    }
    replace_section(DOCUMENT, "machine", machine())
    for name, measure in sections.items():
        text = measure()
        print(f"\n{text}")
        replace_section(DOCUMENT, name, text)


if __name__ == "__main__":
    main()
