# SPDX-License-Identifier: Apache-2.0
"""Servers as processes that die with the one that started them, and what they use."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MORTAL = ("setpriv", "--pdeathsig", "KILL", "--")
"""In front of a command: the kernel kills it when the thread that started it ends, however that ends."""

_taken: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on, different in all calls of this process.

    They lie below the ports that connections are given: such a port may become the near end of somebody's
    connection before its server listens, or while that is stopped.
    """
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return list(itertools.islice(filter(_is_free, _candidates(max(20_000, first_given))), count))


def _candidates(end: int) -> Iterator[int]:
    chance = random.SystemRandom()  # another run, which may be seeded alike, must not get the same ones
    while True:
        port = chance.randrange(10_000, end)
        if port not in _taken:
            _taken.add(port)
            yield port


def _is_free(port: int) -> bool:
    with socket.socket() as one, suppress(OSError):
        one.bind(("127.0.0.1", port))
        return True
    return False


@dataclass
class Process:
    """A server that runs until `stop`, or until the process that started it ends."""

    command: Sequence[str | Path]
    log: Path
    _popen: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it; its output is appended to the log."""
        with self.log.open("ab") as log:
            self._popen = spawn(self.command, log)

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._popen is not None
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def stop(self, *, kill: bool = False) -> None:
        """End it and wait for that; doing it twice is fine."""
        if self._popen is None:
            return
        self._popen.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._popen = None

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


def spawn(
    command: Sequence[str | Path], log: IO[bytes], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command that ends with this process at the latest."""
    return subprocess.Popen(
        [*MORTAL, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=None if environment is None else dict(environment),
    )


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def timestamp() -> str:
    """Now, as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
