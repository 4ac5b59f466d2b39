# SPDX-License-Identifier: Apache-2.0
"""`wildcardctl simulate` and `wildcardctl compile` over files, as people and programs call them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner

from wildcard_operator.cli.ctl import main

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

PODS = """
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {namespace: shop, name: web, labels: {app: web}, creationTimestamp: 2026-01-01T00:00:00Z}
  spec: {nodeName: node-1, containers: [{name: main, ports: [{name: http, containerPort: 8080}]}]}
  status: {podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: shop, name: db, labels: {app: db}}
  spec: {nodeName: node-2}
  status: {podIPs: [{ip: 10.0.0.2}]}
"""
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: http}]}]
"""
FILTER = """
apiVersion: wildcard-operator.io/v1alpha1
kind: WildcardFilter
metadata: {name: scan}
spec:
  direction: Ingress
  target: {pods: {}}
  rules: [{name: syn, action: Drop, tcpFlags: {value: [SYN], mask: [SYN, ACK]}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pods.yaml").write_text(PODS)
    (tmp_path / "policy.json").write_text(json.dumps(yaml.safe_load(POLICY)))
    return tmp_path


def simulate(folder: Path, probes: list[dict[str, Any]], *options: str) -> Result:
    path = folder.parent / f"{folder.name}-probes.yaml"
    path.write_text(yaml.safe_dump(probes))
    return CliRunner().invoke(main, ["simulate", str(folder), "--probes", str(path), *options])


def answers(result: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_an_answer_has_the_probes_fields_the_verdict_and_what_decided(folder: Path) -> None:
    probes = [
        {"from": "shop/db", "to": "shop/web", "protocol": "TCP", "port": 8080},
        {"from": "198.51.100.7", "to": "shop/web", "port": 8080},
    ]
    result = simulate(folder, probes, "--json")

    assert result.exit_code == 0
    allowed, denied = answers(result)
    assert allowed.items() >= (probes[0] | {"allowed": True}).items()
    assert (allowed["egress"], allowed["egressReason"]) == (None, "not isolated")
    assert allowed["ingress"] == {
        "kind": "NetworkPolicy",
        "namespace": "shop",
        "name": "web",
        "rule": "ingress[0]",
    }
    assert allowed["ingressEntry"]["dport_min"] == 8080
    assert denied["allowed"] is False
    assert denied["ingress"]["rule"] == "default-deny"


def test_people_get_a_table(folder: Path) -> None:
    result = simulate(folder, [{"from": "shop/db", "to": "shop/web", "port": 80}])

    assert result.exit_code == 0
    assert "denied" in result.stdout
    assert "NetworkPolicy shop/web default-deny" in result.stdout


def test_an_answer_says_what_a_probe_leaves_open(folder: Path) -> None:
    (folder / "filter.yaml").write_text(FILTER)
    probe = {"from": "shop/db", "to": "shop/web", "port": 8080}
    (open_,) = answers(simulate(folder, [probe], "--json"))
    (stated,) = answers(simulate(folder, [probe | {"tcpFlags": ["SYN"]}], "--json"))

    assert (open_["allowed"], open_["dependsOn"]) == (True, ["tcpFlags"])
    assert stated["allowed"] is False
    assert stated["ingress"] == {"kind": "WildcardFilter", "namespace": None, "name": "scan", "rule": "syn"}


def test_a_refused_object_is_named_and_the_others_are_answered_for(folder: Path) -> None:
    broken = yaml.safe_load(POLICY) | {"metadata": {"namespace": "other", "name": "broken"}}
    broken["spec"]["ingress"][0]["ports"] = [{"port": 90, "endPort": 80}]
    (folder / "broken.yaml").write_text(yaml.safe_dump(broken))
    result = simulate(folder, [{"from": "shop/db", "to": "shop/web", "port": 8080}], "--json")

    assert result.exit_code == 1
    assert answers(result)[0]["allowed"] is True
    assert "InvalidPort" in result.stderr
    assert "NetworkPolicy other/broken: spec.ingress[0].ports[0].endPort" in result.stderr


def test_other_kinds_and_filters_on_nodes_are_passed_over_aloud(folder: Path) -> None:
    (folder / "more.yaml").write_text(
        FILTER.replace("{pods: {}}", "{nodes: {interfaces: {primary: true}}}")
        + "---\nkind: Service\nmetadata: {name: s}\n"
        + "---\napiVersion: crd.projectcalico.org/v1\nkind: NetworkPolicy\n"
    )
    result = simulate(folder, [], "--json")

    assert result.exit_code == 0
    assert "left out, as they target nodes: scan" in result.stderr
    assert "passed over: 1 NetworkPolicy, 1 Service" in result.stderr


@pytest.mark.parametrize(
    ("probe", "told"),
    [
        ({"from": "shop/db"}, "to: it is required"),
        ({"from": "shop/db", "to": "shop/nobody"}, "there is no pod shop/nobody"),
        ({"from": "shop/db", "to": "shop/web", "prot": "TCP"}, "there is no such field"),
        ({"from": "shop/db", "to": "fd00::9"}, "no address of one family"),
        ({"from": "shop/db", "to": "shop/web", "port": 70000}, "70000 is out of range"),
    ],
)
def test_a_probe_that_cannot_be_read_is_an_error_with_its_place(
    folder: Path, probe: dict[str, Any], told: str
) -> None:
    result = simulate(folder, [{"from": "shop/db", "to": "shop/web", "port": 1}, probe])

    assert result.exit_code == 2
    assert "Probe 2" in result.stderr
    assert told in result.stderr


def test_a_file_that_is_no_yaml_is_an_error_with_its_line(folder: Path) -> None:
    (folder / "torn.yaml").write_text("kind: Pod\nmetadata: {name: [")
    result = simulate(folder, [])

    assert result.exit_code == 2
    assert re.search(r"torn\.yaml:\d+: it is neither YAML nor JSON", result.stderr)


def test_compile_shows_addresses_and_entries_of_the_node(folder: Path) -> None:
    shown = CliRunner().invoke(main, ["compile", str(folder), "--node", "node-1"])
    found = json.loads(
        CliRunner().invoke(main, ["compile", str(folder), "--node", "node-1", "--json"]).stdout
    )

    assert shown.exit_code == 0
    assert "NetworkPolicy shop/web ingress[0]" in shown.stdout
    rows = {row["address"]: row for row in found["addresses"]}
    assert set(rows) == {"10.0.0.1", "10.0.0.2", "fd00::1"}
    assert rows["10.0.0.1"]["policy_ingress"]
    assert rows["10.0.0.2"]["peer_class"]
    assert {entry["action"] for entry in found["entries"]} == {"Allow", "Drop"}


def test_compile_takes_interfaces_for_filters_on_nodes(folder: Path) -> None:
    (folder / "filter.yaml").write_text(
        FILTER.replace("{pods: {}}", "{nodes: {interfaces: {primary: true}}}")
    )
    result = CliRunner().invoke(
        main, ["compile", str(folder), "--node", "node-1", "--interface", "eth0", "--json"]
    )

    (interface,) = json.loads(result.stdout)["interfaces"]
    assert interface["interface"] == "eth0"
    assert interface["ingress"]


def test_help_names_every_command_without_importing_it() -> None:
    result = CliRunner().invoke(main, ["--help"])

    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("classify", "compile", "dump", "simulate", "status", "top"))
