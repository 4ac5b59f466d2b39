# SPDX-License-Identifier: Apache-2.0
"""`wildcard-operator` as a process of its own, with its service account's token."""

from __future__ import annotations

import http.client
import os
import signal
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Self

from support.agents import Samples, samples_of, total
from support.manifests import NAMESPACE
from support.processes import free_ports, spawn
from support.waiting import wait_until

if TYPE_CHECKING:
    import subprocess

    from support.controlplane import ControlPlane

OPERATOR = Path(sys.executable).parent / "wildcard-operator"


class OperatorProcess:
    """One replica. As a context manager it is killed at the end."""

    def __init__(self, plane: ControlPlane, name: str = "operator", *options: str) -> None:
        self.log = plane.folder / f"{name}.log"
        self.metrics_port, self._health_port = free_ports(2)
        self._name = name
        self._command = [
            OPERATOR,
            *("--namespace", NAMESPACE),
            *("--kubeconfig", plane.service_account(NAMESPACE, "wildcard-operator")),
            *("--metrics-port", str(self.metrics_port)),
            *("--health-port", str(self._health_port)),
            *options,
        ]
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop(signal.SIGKILL)

    def start(self) -> None:
        """Start it; it is not ready yet."""
        with self.log.open("ab") as log:
            self._popen = spawn(self._command, log, {**os.environ, "POD_NAME": self._name})

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._popen is not None
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self._popen is not None
        self._popen.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """End it and return its exit status; doing it twice is fine."""
        if self._popen is None:
            return None
        self._popen.send_signal(number)
        status = self._popen.wait(60)
        self._popen = None
        return status

    def ready(self) -> bool:
        """Whether /readyz says so."""
        return self._get(self.metrics_port, "/readyz") is not None

    def healthy(self) -> bool:
        """Whether /healthz says so."""
        return self._get(self._health_port, "/healthz") is not None

    def samples(self) -> Samples:
        """What a scrape says; nothing while nobody answers."""
        return samples_of(self._get(self.metrics_port, "/metrics") or "")

    def value(self, name: str, **labels: str) -> float:
        """One metric of the operator's, summed over the labels that are not given."""
        return total(self.samples(), name, **labels)

    def leads(self) -> bool:
        """Whether it publishes."""
        return self.value("wildcard_operator_leads") == 1

    def writes(self) -> float:
        """Objects that it has written or deleted."""
        return self.value("wildcard_operator_publish_seconds_count")

    def settled(self) -> bool:
        """Whether it leads, and everything that it knows is written."""
        samples = self.samples()
        leads = total(samples, "wildcard_operator_leads") == 1
        return leads and total(samples, "wildcard_operator_publish_pending") == 0

    def wait_until_settled(self, seconds: float = 60, *, every: float = 0.05) -> float:
        """Until it is settled; returns how long that took. A successor waits for a killed one's Lease first.

        `every`: a scrape costs the operator time, a quarter of a second with 10,000 policies.
        """
        return wait_until(
            self.settled,
            seconds,
            lambda: f"{self._name} leads and has published\n{self.log.read_text()[-3000:]}",
            every=every,
        )

    def _get(self, port: int, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                text: str = answer.read().decode()
                return text
        except (OSError, http.client.HTTPException):  # the latter where it ends amid an answer
            return None
