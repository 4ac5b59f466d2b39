# SPDX-License-Identifier: Apache-2.0
"""`wildcardctl dump` and `wildcardctl top` on a node in use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from support.objects import policy, wildcard_filter
from support.reach import connects
from support.stage import built_stage
from wildcard_operator.cli.dump import dump_command
from wildcard_operator.cli.top import rates, top_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.stage import Stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with built_stage("ptp") as built:
        rule = {
            "name": "scan",
            "action": "Drop",
            "protocol": "TCP",
            "sources": [{"cidr": "198.51.100.0/24"}],
            "destinationPorts": [{"port": 8000, "endPort": 8999}],
            "tcpFlags": {"value": ["SYN"], "mask": ["SYN", "ACK"]},
        }
        target = {"nodes": {"interfaces": {"names": ["eth0"]}}}
        peer = {"from": [{"podSelector": {"matchLabels": {"app": "a"}}}], "ports": [{"port": 80}]}
        built.apply(policy("from-a", "b", ingress=[peer]), wildcard_filter("edge", "Ingress", target, rule))
        pods = built.pods
        assert connects(pods["a"].netns, pods["b"].netns, pods["b"].address(4), 80)
        assert not connects(pods["c"].netns, pods["b"].netns, pods["b"].address(4), 80)
        yield built


def run(stage: Stage, *arguments: str) -> str:
    result = CliRunner().invoke(dump_command, [*arguments, "--bpffs", str(stage.agent.bpffs)])
    assert result.exit_code == 0, result.output
    return result.output


def test_dump_tells_everything_as_json(stage: Stage) -> None:
    found = json.loads(run(stage, "--json"))

    rules = {(r["rule"]["name"], r["rule"]["rule"]): r for r in found["rules"] if r["family"] == 4}
    allowed = rules["from-a", "ingress[0]"]
    assert allowed["packets"] > 0
    assert (allowed["action"], allowed["protocol"], allowed["destinationPorts"]) == ("Allow", "TCP", "80")
    assert allowed["peer"].startswith("class ")
    denied = rules["", "default-deny"]
    assert (denied["action"], denied["scope"]) == ("Drop", allowed["scope"])
    assert denied["packets"] > 0
    scan = rules["edge", "scan"]
    assert (scan["source"], scan["destinationPorts"]) == ("198.51.100.0/24", "8000-8999")
    assert scan["tcpFlags"] == {"value": ["SYN"], "mask": ["SYN", "ACK"]}
    assert scan["scope"].startswith("host-ingress/")

    addresses = {row["address"]: row for row in found["addresses"]}
    assert addresses["10.244.1.12"]["scopes"] == {"policy_ingress": allowed["scope"]}
    assert addresses["192.168.50.11"]["node"]
    pods = {row["index"]: row["pod"] for row in found["interfaces"]}
    assert pods[stage.pods["b"].host_index] == addresses["10.244.1.12"]["pod"]
    assert found["programs"]["xdp"] == [{"interface": str(stage.node.index), "mode": "generic"}]
    (program,) = found["programs"]["netfilter"]
    assert program["judges"]


def test_dump_shows_tables_to_people(stage: Stage) -> None:
    text = run(stage)

    for expected in (
        "NetworkPolicy default/from-a ingress[0]",
        "10.244.1.12",
        "this node",
        "judges",
        "spoofed",
    ):
        assert expected in text
    assert "Addresses" not in run(stage, "rules")


def test_a_peers_address_that_the_node_takes_and_gives_back_stays_the_peers(stage: Stage) -> None:
    address, network = "192.168.77.7", stage.node.netns
    far = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": "far", "labels": {"app": "a"}},
        "spec": {"nodeName": "node-2"},
        "status": {"podIPs": [{"ip": address}]},
    }

    def known() -> dict[str, Any]:
        stage.agent.settle()
        return next(row for row in json.loads(run(stage, "--json"))["addresses"] if row["address"] == address)

    stage.agent.manifests.write("far.yaml", far)
    before = known()
    assert before["class"] is not None
    network.address(stage.node.index, f"{address}/32")
    assert known() == before | {"node": True}
    network.netlink.addr("del", index=stage.node.index, address=address, prefixlen=32)
    assert known() == before


def test_dump_says_where_nothing_is(tmp_path: Path) -> None:
    result = CliRunner().invoke(dump_command, ["--bpffs", str(tmp_path)])

    assert result.exit_code == 2
    assert "does an agent run here" in result.output


def test_top_shows_the_busiest_rule_first(stage: Stage) -> None:
    result = CliRunner().invoke(
        top_command, ["--bpffs", str(stage.agent.bpffs), "--interval", "0.1", "--rounds", "2"]
    )

    assert result.exit_code == 0, result.output
    assert "NetworkPolicy default/from-a ingress[0]" in " ".join(result.output.split())


def test_a_rate_is_what_came_between_two_readings() -> None:
    before = {"quiet": (10, 1000), "busy": (10, 1000), "given to another": (500, 5000)}
    after = {"quiet": (10, 1000), "busy": (30, 5000), "given to another": (4, 40), "never": (0, 0)}

    found = [(r.label, r.packets_per_second, r.bytes_per_second) for r in rates(before, after, 2.0)]
    assert found == [("busy", 10, 2000), ("given to another", 2, 20), ("quiet", 0, 0)]
