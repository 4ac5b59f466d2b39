# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus inside a network namespace."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.netns import Namespace

PORT = 9090


class Prometheus:
    """A running Prometheus."""

    def __init__(self, netns: Namespace) -> None:
        self._netns = netns

    def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The instant vector of a PromQL expression, by its labels; empty while there is none."""
        url = f"http://127.0.0.1:{PORT}/api/v1/query?query={quote(expression)}"
        try:
            answer = json.loads(self._netns.run("curl", "-sf", "-m", "5", url))
        except RuntimeError:
            return {}
        return {
            tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in answer["data"]["result"]
        }

    def history(
        self, expression: str, seconds: float, step: float = 0.5
    ) -> dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]:
        """An expression's values over the last seconds: (time, value) by its labels."""
        end = time.time()
        query = f"query={quote(expression)}&start={end - seconds}&end={end}&step={step}"
        url = f"http://127.0.0.1:{PORT}/api/v1/query_range?{query}"
        answer = json.loads(self._netns.run("curl", "-sf", "-m", "10", url))
        return {
            tuple(sorted(one["metric"].items())): [(float(at), float(value)) for at, value in one["values"]]
            for one in answer["data"]["result"]
        }

    def value(self, expression: str) -> float:
        """The only value of an expression, 0 while there is none."""
        return next(iter(self.query(expression).values()), 0.0)


@contextmanager
def prometheus(netns: Namespace, targets: Sequence[str] | Mapping[str, str]) -> Iterator[Prometheus]:
    """Scrape the targets once a second until the end of the block; a mapping gives each its node's name."""
    named = targets.items() if isinstance(targets, Mapping) else ((target, "") for target in targets)
    static = [{"targets": [target], "labels": {"node": node} if node else {}} for target, node in named]
    configuration = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "agents", "static_configs": static}],
    }
    with tempfile.TemporaryDirectory(prefix="wildcard-prometheus-") as folder:
        config = Path(folder, "prometheus.yml")
        config.write_text(yaml.safe_dump(configuration))
        command = [
            *("prometheus", f"--config.file={config}"),
            *(f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{PORT}"),
        ]
        process = netns.spawn(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield Prometheus(netns)
        finally:
            process.kill()
            process.wait()
