# SPDX-License-Identifier: Apache-2.0
"""Agents on nodes made of namespaces: in this process, turned by hand, or as a process that can be killed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from support.bpffs import mounted_bpffs
from wildcard_operator.agent.manifests import ManifestSource
from wildcard_operator.cli.agent import running_node
from wildcard_operator.compiler.config import NodeConfig
from wildcard_operator.datapath.maps import Capacities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from support.topology import Node
    from wildcard_operator.agent.source import Problem

SMALL = Capacities(rules=4096, addresses=4096, interfaces=256)
AGENT = Path(sys.executable).parent / "wildcard-agent"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Manifests:
    """A folder of manifests that a test writes; a file is replaced in one step, as careful programs do it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, *objects: Mapping[str, Any]) -> None:
        """Write objects to a file."""
        self.write_text(name, "\n---\n".join(json.dumps(item) for item in objects))

    def write_text(self, name: str, text: str) -> None:
        """Write anything to a file."""
        new = self.folder / f".{name}.new"
        new.write_text(text, encoding="utf-8")
        new.rename(self.folder / name)

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self.folder / name).unlink()

    def read(self, name: str) -> list[Any]:
        """The documents of a file."""
        return list(yaml.safe_load_all((self.folder / name).read_text(encoding="utf-8")))


def samples_of(text: str) -> Samples:
    """What a scrape says: (name, labels) -> value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples of a name that carry these labels."""
    wanted = set(labels.items())
    return sum(value for (found, marks), value in samples.items() if found == name and wanted <= marks)


class LocalAgent:
    """An agent of `node` in this process, over a folder and a bpffs of its own.

    It does nothing by itself: `settle` takes in what changed. Use it as a context manager.
    """

    def __init__(
        self,
        node: Node,
        config: NodeConfig | None = None,
        capacities: Capacities = SMALL,
        bpffs: Path | None = None,
        established: str = "judge",
    ) -> None:
        self.node = node
        self._established = established
        self._config = config or NodeConfig()
        self._capacities = capacities
        self._bpffs = bpffs
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wildcard-manifests-")))
            self.manifests = Manifests(folder)
            self.bpffs = self._bpffs or stack.enter_context(mounted_bpffs())
            stack.enter_context(self.node.netns.entered())
            self.source = ManifestSource(folder, self.node.name)
            built = running_node(
                self.source, self.node.name, self.bpffs, self._config, self._capacities, self._established
            )
            self.agent, self.registry = stack.enter_context(built)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def settle(self) -> None:
        """Bring all that changed since the last call into the kernel."""
        with self.node.netns.entered():
            self.agent.turn(host=True, tables=True)

    def apply(self, *objects: Mapping[str, Any], file: str = "all.yaml") -> None:
        """Let a file say this, and settle."""
        self.manifests.write(file, *objects)
        self.settle()

    def problems(self) -> Sequence[Problem]:
        """What is wrong with the files."""
        return self.source.problems()

    def samples(self) -> Samples:
        """What a scrape would say."""
        return samples_of(generate_latest(self.registry).decode())


class AgentProcess:
    """`wildcard-agent` as a process of its own, in a node's namespace. `before`: a command that starts it."""

    def __init__(
        self,
        node: Node,
        folder: Path,
        bpffs: Path,
        *options: str,
        port: int = 9100,
        before: tuple[str, ...] = (),
    ) -> None:
        self._node = node
        self._port = port
        self._command = [
            *before,
            str(AGENT),
            *("--manifests", str(folder)),
            *("--node", node.name),
            *("--bpffs", str(bpffs)),
            *("--metrics-port", str(port)),
            *options,
        ]
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop(signal.SIGKILL)

    def start(self) -> None:
        """Start it; it is not ready yet."""
        self.process = self._node.netns.spawn(self._command, stderr=subprocess.PIPE)

    @property
    def pid(self) -> int:
        """The process's id; it must run."""
        assert self.process is not None
        return self.process.pid

    def wait(self, seconds: float) -> int:
        """The exit status of one that ends by itself within so many seconds; it logs little before."""
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> str:
        """Send a signal and wait for the end; returns what it logged."""
        if self.process is None:
            return ""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=seconds)
        self.process = None
        return errors

    def scrape(self) -> Samples | None:
        """The metrics, None while nobody answers."""
        try:
            with self._node.netns.entered():
                client = socket.create_connection(("127.0.0.1", self._port), timeout=5)
            with client:
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
        except OSError:
            return None
        return samples_of(answer.partition(b"\r\n\r\n")[2].decode())

    def wait_for_commits(self, number: int, seconds: float = 60) -> Samples:
        """Return once it has made so many commits since it started."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (samples := self.scrape()) and total(samples, "wildcard_commits_total") >= number:
                return samples
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the agent ended: {self.process.communicate()[1]}")
            time.sleep(0.02)
        raise AssertionError(f"no {number} commits within {seconds} s")
