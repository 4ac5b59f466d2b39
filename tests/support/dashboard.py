# SPDX-License-Identifier: Apache-2.0
"""The dashboard that the chart ships: its queries, and a picture of what a Prometheus answers to them."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from support.manifests import CHART

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from support.prometheus import Prometheus

VARIABLES: Final = {"$node": ".*", "$namespace": ".*", "$__rate_interval": "5s"}
COLUMNS: Final = 24
UNIT_INCHES: Final = 0.62


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `place` is (left, top, width, height) in the dashboard's units."""

    title: str
    kind: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    place: tuple[int, int, int, int]


def panels() -> list[Panel]:
    """All panels with a query, as they stand in the chart; a row's heading has none."""
    content = json.loads((CHART / "files/dashboard.json").read_text())
    return [_panel(item) for item in content["panels"] if item["type"] != "row"]


def _panel(item: dict[str, Any]) -> Panel:
    place = tuple(item["gridPos"][key] for key in "xywh")
    queries = tuple((filled_in(one["expr"]), one["legendFormat"]) for one in item["targets"])
    return Panel(item["title"], item["type"], item["fieldConfig"]["defaults"]["unit"], queries, place)


def filled_in(query: str) -> str:
    """A query as Grafana would send it with every variable on "All"."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def draw(prometheus: Prometheus, seconds: float, target: Path) -> None:
    """Plot every panel from what Prometheus has of the last seconds."""
    shown = panels()
    height = max(top + tall for _, top, _, tall in (panel.place for panel in shown))
    figure = Figure(figsize=(COLUMNS * UNIT_INCHES, height * UNIT_INCHES * 0.62), layout=None)
    for panel in shown:
        left, top, width, tall = panel.place
        margin_x, margin_y = 1.0 / COLUMNS, 1.15 / height
        box = (
            left / COLUMNS + margin_x * 0.75,
            1 - (top + tall) / height + margin_y * 0.8,
            width / COLUMNS - margin_x,
            tall / height - margin_y * 1.75,
        )
        axes = figure.add_axes(box)
        axes.set_title(panel.title, fontsize=8, loc="left")
        axes.tick_params(labelsize=6)
        (_plot if panel.kind == "timeseries" else _write)(axes, panel, prometheus, seconds)
    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        FigureCanvasSVG(figure).print_svg(target, metadata={"Date": None})


def _plot(axes: Axes, panel: Panel, prometheus: Prometheus, seconds: float) -> None:
    now = time.time()
    for query, legend in panel.queries:
        for labels, points in prometheus.history(query, seconds).items():
            ago, values = [at - now for at, _ in points], [value for _, value in points]
            axes.plot(ago, values, label=legend_of(legend, dict(labels)), linewidth=1)
    axes.set_xlim(-seconds, 0)
    axes.set_ylim(0, max(axes.get_ylim()[1] * 1.25, 1e-9))
    axes.set_xlabel(f"seconds; {panel.unit}", fontsize=6)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=5, loc="upper left", ncols=2)


def _write(axes: Axes, panel: Panel, prometheus: Prometheus, seconds: float) -> None:
    """Numbers and tables: the values of now."""
    axes.set_axis_off()
    ((query, _),) = panel.queries
    found = sorted(prometheus.query(query).items(), key=lambda one: -one[1])
    if panel.kind == "stat":
        value = found[0][1]
        text = f"{value:.2%}" if panel.unit == "percentunit" else f"{value:g}"
        axes.text(0.5, 0.5, text, fontsize=18, ha="center", va="center")
        return
    for number, (labels, value) in enumerate(found[:10]):
        line = " ".join(text for _, text in labels) or "none"
        axes.text(0, 0.95 - number * 0.1, f"{value:8.0f}  {line}", fontsize=6, va="top", family="monospace")


def legend_of(template: str, labels: dict[str, str]) -> str:
    """A legend as Grafana fills it in."""
    for name, value in labels.items():
        template = template.replace("{{" + name + "}}", value)
    return re.sub(r"{{\w+}}", "", template).strip(" /") or " ".join(labels.values()) or "none"
