# SPDX-License-Identifier: Apache-2.0
"""Every alert fires when it should, alone, and has a page that says what to do. By the real promtool."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.chart import find, render
from support.manifests import CHART, ROOT

RULES_FILE = CHART / "files/alerts.yaml"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES_FILE.read_text())["groups"]
    for rule in group["rules"]
}
CASES = yaml.safe_load(Path(__file__).with_name("alerts.yaml").read_text())
HEALTHY = 'wildcard_operator_leads{instance="healthy:8080"}'


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", RULES_FILE)


def test_there_is_a_case_for_every_alert() -> None:
    assert [case["alert"] for case in CASES] == list(ALERTS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["alert"])
def test_an_alert_fires_alone(tmp_path: Path, case: dict[str, Any]) -> None:
    series = dict(case["series"])
    if not any(name.startswith("wildcard_operator_leads") for name in series):
        series[HEALTHY] = "1x60"
    firing = {
        "exp_labels": {**case.get("labels", {}), **ALERTS[case["alert"]]["labels"]},
        "exp_annotations": {"summary": case["summary"], "runbook": f"docs/runbooks/{case['alert']}.md"},
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": case["after"],
                "alertname": alert,
                "exp_alerts": [firing] if alert == case["alert"] else [],
            }
            for alert in ALERTS
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(
        yaml.safe_dump({"rule_files": [str(RULES_FILE)], "evaluation_interval": "1m", "tests": [test]})
    )

    promtool("test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS.values(), ids=lambda alert: alert["alert"])
def test_an_alert_has_a_page_that_says_what_to_do(alert: dict[str, Any]) -> None:
    text = (ROOT / alert["annotations"]["runbook"]).read_text()

    assert text.startswith(f"# {alert['alert']}\n")
    assert all(f"## {part}" in text for part in ("What it means", "Where to look", "What to do"))


def test_no_page_speaks_of_an_alert_that_is_gone() -> None:
    assert {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")} - {"index"} == ALERTS.keys()


def test_the_chart_ships_the_same_rules() -> None:
    shipped = find(render({"monitoring": {"rules": True}}), "PrometheusRule", "wildcard-operator")

    assert shipped["spec"] == yaml.safe_load(RULES_FILE.read_text())
