# SPDX-License-Identifier: Apache-2.0
"""A node, its pods and an agent out of network namespaces: watch policies decide on real packets.

Everything lives in namespaces and a bpffs of this process; nothing of the machine is touched, and all is
gone at the end, however it ends. `make demo` runs it.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from support.agents import AgentProcess, total
from support.bpffs import mounted_bpffs
from support.probes import Endpoint, Probe, Traffic
from support.reach import connects
from support.streams import Stream
from support.topology import Fabric
from support.traffic import Prober
from wildcard_operator.compiler.simulate import Simulator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.netns import Namespace

HERE = Path(__file__).resolve().parent
PODS = {"web": "shop", "cart": "shop", "db": "shop", "guest": "other"}
SERVICE = "10.96.0.10"
PORT = 8080
SCANNER, FRIEND = "198.51.100.66", "198.51.100.7"
SCANNED = (22, 23, 135, 300, 445, 446)

console = Console(width=None if sys.stdout.isatty() else 110)


class Demo:
    """The stage: one node with four pods, a Service, and hosts outside. Use it as a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Demo:
        with ExitStack() as stack:
            self.fabric = stack.enter_context(Fabric())
            self.node = self.fabric.add_node("node-1")
            for number, name in enumerate(PODS, start=11):
                self.node.add_pod(name, f"10.244.1.{number}", f"fd00:10:244:1::{number}")
            self.node.service(SERVICE, 80, [(self.address("cart"), PORT)])
            for host in (SCANNER, FRIEND):
                self.fabric.outside_address(host)
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wildcard-demo-")))
            bpffs = stack.enter_context(mounted_bpffs())
            self.agent = stack.enter_context(AgentProcess(self.node, self.folder, bpffs))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def address(self, pod: str, family: int = 4) -> str:
        """A pod's address."""
        return self.node.pods[pod].address(family)

    def home(self, address: str) -> Namespace:
        """The namespace of an address."""
        for pod in self.node.pods.values():
            if address in pod.addresses:
                return pod.netns
        return self.node.netns if address in self.node.addresses else self.fabric.outside

    def give(self, name: str) -> float:
        """Put a file of the demo into the agent's folder; seconds until the kernel judges by it."""
        commits = total(self.agent.scrape() or {}, "wildcard_commits_total")
        started = time.monotonic()
        new = self.folder / f".{name}"
        shutil.copy(HERE / name, new)
        new.rename(self.folder / name)
        self.agent.wait_for_commits(int(commits) + 1)
        return time.monotonic() - started

    def objects(self) -> list[Any]:
        """All that the folder holds."""
        return [
            item
            for path in sorted(self.folder.glob("*.yaml"))
            for item in yaml.safe_load_all(path.read_text())
        ]

    def try_out(self, calls: Sequence[tuple[str, str, int]]) -> tuple[list[bool], list[bool]]:
        """For calls of (from, to, port), addresses: what the simulator expects, and what the packets did."""
        simulator = Simulator(self.objects())
        expected = [
            simulator.answer({"from": a, "to": b, "protocol": "TCP", "port": p}).allowed for a, b, p in calls
        ]
        probes = [
            Probe(Endpoint(a, a, None), Endpoint(b, b, None), Traffic("TCP", p), allowed)
            for (a, b, p), allowed in zip(calls, expected, strict=True)
        ]
        with Prober(self.home) as prober:
            return expected, prober.run(probes)


def chapter(title: str) -> None:
    """Begin a chapter."""
    console.print()
    console.print(Rule(f"[bold]{title}", align="left"))


def show(name: str) -> None:
    """Show a file of the demo."""
    text = (HERE / name).read_text(encoding="utf-8")
    console.print(
        Panel(
            Syntax(text.rstrip(), "yaml", background_color="default", word_wrap=True),
            title=name,
            title_align="left",
        )
    )


def cell(*, expected: bool, seen: bool) -> Text:
    """What became of a call, and whether that is right."""
    text = "passes" if seen else "dropped"
    if expected != seen:
        return Text(f"{text} ✗", style="bold red")
    return Text(f"{text} ✓", style="green" if seen else "yellow")


def matrix(demo: Demo, family: int) -> bool:
    """Every pod, the node and a host outside call every pod; whether all went as the simulator says."""
    callers = {name: demo.address(name, family) for name in PODS}
    callers["node"] = demo.node.addresses[0 if family == 4 else 1]
    callers["outside"] = FRIEND if family == 4 else "fd00:192:168:50::250"
    pairs = [(a, b) for a in callers for b in PODS if a != b]
    expected, seen = demo.try_out([(callers[a], demo.address(b, family), PORT) for a, b in pairs])
    table = Table(title=f"TCP port {PORT}, IPv{family}: who reaches whom", title_justify="left")
    table.add_column("from \\ to", style="bold")
    for name in PODS:
        table.add_column(name)
    cells = {pair: cell(expected=e, seen=s) for pair, e, s in zip(pairs, expected, seen, strict=True)}
    for caller in callers:
        table.add_row(caller, *(cells.get((caller, name), Text("·", style="dim")) for name in PODS))
    console.print(table)
    return expected == seen


def call_the_service(demo: Demo) -> bool:
    """Policies speak of the pod behind a Service, and of its port."""
    cart = demo.node.pods["cart"].netns
    answers = {
        name: connects(demo.node.pods[name].netns, cart, SERVICE, 80, PORT) for name in ("web", "guest")
    }
    for name, passed in answers.items():
        line = Text(f"{name} calls the Service {SERVICE}:80, which leads to cart:{PORT}: ")
        console.print(line + cell(expected=name == "web", seen=passed))
    return answers == {"web": True, "guest": False}


def cut_a_connection(demo: Demo) -> bool:
    """A download runs, and a policy forbids it while it does."""
    download = Stream(
        demo.home(demo.address("guest")), demo.home(demo.address("web")), demo.address("web"), 8080
    )
    try:
        with Live(console=console, refresh_per_second=10) as live:
            seconds, last, cut = 0.0, 0, False
            for tick in range(30):
                if tick == 12:
                    seconds, cut = demo.give("20-cut.yaml"), True
                    last = download.received
                time.sleep(0.1)
                rate, last = (download.received - last) / 0.1, download.received
                bar = "█" * min(60, int(rate / 100_000))
                word = Text("cut " if cut else "runs", style="yellow" if cut else "green")
                live.update(
                    Text.assemble(
                        "guest downloads from web: ", word, f" {rate / 1e6:6.1f} MB/s ", (bar, "cyan")
                    )
                )
        stopped = download.stands_still()
    finally:
        download.close()
    console.print(f"From the file's change to the last packet: at most [bold]{seconds * 1000:.0f} ms[/].")
    return stopped


def scan(demo: Demo) -> bool:
    """Two hosts outside knock at the node's ports; XDP drops what the filter names."""
    own = demo.node.addresses[0]
    calls = [(host, own, port) for host in (SCANNER, FRIEND) for port in SCANNED]
    probes = [
        Probe(
            Endpoint(a, a, None),
            Endpoint(b, b, None),
            Traffic("TCP", p),
            a == FRIEND or p not in (23, 135, 300, 445),
        )
        for a, b, p in calls
    ]
    with Prober(demo.home) as prober:
        seen = prober.run(probes)
    table = Table(title="Hosts outside knock at the node", title_justify="left")
    table.add_column("port", style="bold", justify="right")
    for host in (SCANNER, FRIEND):
        table.add_column(f"from {host}")
    cells = [cell(expected=probe.allowed, seen=passed) for probe, passed in zip(probes, seen, strict=True)]
    for number, port in enumerate(SCANNED):
        table.add_row(str(port), *cells[number :: len(SCANNED)])
    console.print(table)
    return seen == [probe.allowed for probe in probes]


def counters(demo: Demo) -> None:
    """What a scrape of /metrics says of every rule."""
    table = Table(title="/metrics: packets by rule", title_justify="left")
    for column in ("kind", "policy", "rule", "direction", "action"):
        table.add_column(column, overflow="fold")
    table.add_column("packets", justify="right")
    table.add_column("bytes", justify="right")
    samples = demo.agent.scrape() or {}
    for (name, labels), value in sorted(samples.items(), key=lambda item: -item[1]):
        if name == "wildcard_rule_packets_total" and value:
            label = dict(labels)
            policy = "/".join(part for part in (label["namespace"], label["policy"]) if part)
            octets = total(samples, "wildcard_rule_bytes_total", **label)
            table.add_row(
                label["kind"],
                policy,
                label["rule"],
                label["direction"],
                label["action"],
                f"{value:,.0f}",
                f"{octets:,.0f}",
            )
    console.print(table)


def main() -> int:
    """Play it; the exit status says whether every packet met its fate."""
    started = time.monotonic()
    right = []
    with Demo() as demo:
        chapter("1. A node without policies")
        with console.status("Starting wildcard-agent on the node…"):
            demo.give("00-pods.yaml")
        console.print(
            "Pods, a Service (10.96.0.10:80 → cart:8080) and an agent that follows a folder. All is open:"
        )
        right.append(matrix(demo, 4))

        chapter("2. Policies: one file in the folder")
        show("10-policies.yaml")
        seconds = demo.give("10-policies.yaml")
        console.print(
            f"In force after [bold]{seconds * 1000:.0f} ms[/]. What the simulator expects, and packets do:"
        )
        right += [matrix(demo, 4), matrix(demo, 6)]
        right.append(call_the_service(demo))

        chapter("3. A policy cuts a live connection")
        show("20-cut.yaml")
        right.append(cut_a_connection(demo))

        chapter("4. A filter on the node's interface, in XDP")
        show("30-filter.yaml")
        demo.give("30-filter.yaml")
        right.append(scan(demo))

        chapter("5. Every decision is counted")
        counters(demo)

        chapter("6. The agent is killed")
        demo.agent.stop(signal.SIGKILL)
        console.print("kill -9. What it put in place goes on:")
        right.append(matrix(demo, 4))
    console.print()
    done = f"{time.monotonic() - started:.0f} s, everything is gone again."
    if all(right):
        console.print(f"[bold green]Every packet met the fate that its policy states.[/] {done}")
        return 0
    console.print(f"[bold red]Some packets did not meet their fate.[/] {done}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
