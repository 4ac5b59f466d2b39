# SPDX-License-Identifier: Apache-2.0
"""The loader of policy cases expands tables as their README says, and refuses what it does not understand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cases import load_file
from support.strict import CaseError

if TYPE_CHECKING:
    from pathlib import Path

    from support.cases import Case
    from support.probes import Probe

OBJECTS = """
objects:
- {apiVersion: v1, kind: Namespace, metadata: {name: x}}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: a}
  spec: {}
  status: {phase: Running, podIPs: [{ip: 10.244.1.1}, {ip: "fd00:10:244:1::1"}]}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: b}
  spec: {}
  status: {phase: Running, podIPs: [{ip: "fd00:10:244:1::2"}, {ip: 10.244.1.2}]}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: four}
  spec: {}
  status: {phase: Running, podIPs: [{ip: 10.244.1.3}]}
- {apiVersion: v1, kind: Pod, metadata: {namespace: x, name: new}, spec: {}, status: {phase: Pending}}
- apiVersion: v1
  kind: Pod
  metadata: {namespace: x, name: ended}
  spec: {}
  status: {phase: Succeeded, podIPs: [{ip: 10.244.1.4}]}
cases:
"""


def load(folder: Path, cases: str, objects: str = OBJECTS) -> tuple[Case, ...]:
    path = folder / "file.yaml"
    path.write_text(objects + cases, encoding="utf-8")
    return load_file(path)


def probes_of(folder: Path, table: str) -> list[Probe]:
    (case,) = load(folder, f"- {{name: one, truth: [{table}]}}")
    return list(case.steps[0].probes)


def cells(probes: list[Probe]) -> set[tuple[str, str, int | None]]:
    """What is allowed, by the names of the ends and the port."""
    return {(p.source.name, p.destination.name, p.traffic.port) for p in probes if p.allowed}


def test_table_allows_what_it_lists_and_denies_the_rest(tmp_path: Path) -> None:
    probes = probes_of(
        tmp_path,
        "{from: [x/a, x/b], to: [x/b, 10.9.9.9], ports: [80, 81], allowed: [{from: x/a, ports: [80]}]}",
    )

    assert len(probes) == 6, "x/b is not paired with itself"
    assert cells(probes) == {("x/a", "x/b", 80), ("x/a", "10.9.9.9", 80)}


def test_table_denies_what_it_lists_and_allows_the_rest(tmp_path: Path) -> None:
    probes = probes_of(tmp_path, "{from: x/a, to: [x/b, x/four], ports: [80, 81], denied: [{to: x/b}]}")

    assert cells(probes) == {("x/a", "x/four", 80), ("x/a", "x/four", 81)}


def test_pattern_means_running_pods_with_an_address(tmp_path: Path) -> None:
    probes = probes_of(tmp_path, '{from: 10.9.9.9, to: "x/*", port: 80, allowed: true}')

    assert [probe.destination.name for probe in probes] == ["x/a", "x/b", "x/four"]


def test_family_is_that_of_the_written_address_else_of_the_sources_first(tmp_path: Path) -> None:
    to_address = probes_of(tmp_path, '{from: x/b, to: [10.9.9.9, "2001:db8::1"], port: 80, allowed: true}')
    to_pod = probes_of(tmp_path, "{from: x/b, to: x/a, port: 80, allowed: true}")

    assert [probe.source.address for probe in to_address] == ["10.244.1.2", "fd00:10:244:1::2"]
    assert [probe.destination.address for probe in to_pod] == ["fd00:10:244:1::1"]


def test_families_multiply_a_table(tmp_path: Path) -> None:
    probes = probes_of(tmp_path, "{from: x/a, to: x/b, port: 80, families: [4, 6], allowed: true}")

    assert [probe.source.address for probe in probes] == ["10.244.1.1", "fd00:10:244:1::1"]


def test_query_is_the_probe_of_the_simulator(tmp_path: Path) -> None:
    flags, ping = probes_of(
        tmp_path,
        "{from: x/a, to: x/b, allowed: true, ports: ["
        "{port: 80, sourcePort: 9, tcpFlags: [SYN], payload: 9000},"
        "{protocol: ICMP, icmp: {type: 8, code: 0}}]}",
    )

    ends = {"from": "10.244.1.1", "to": "10.244.1.2"}
    assert flags.query() == {**ends, "protocol": "TCP", "port": 80, "sourcePort": 9, "tcpFlags": ["SYN"]}
    assert ping.query() == {**ends, "protocol": "ICMP", "icmp": {"type": 8, "code": 0}}


def test_steps_build_on_each_other(tmp_path: Path) -> None:
    (case,) = load(
        tmp_path,
        """
- name: one
  steps:
  - {name: before, truth: [{from: x/a, to: x/b, port: 80, allowed: true}]}
  - name: patched
    patch: [{kind: Pod, metadata: {namespace: x, name: a, labels: {k: v}}, status: {phase: null}}]
    delete: [{kind: Pod, metadata: {namespace: x, name: b}}]
    truth: [{from: x/a, to: x/four, port: 80, allowed: true}]
""",
    )
    before, after = (
        {item["metadata"]["name"]: item for item in step.objects if item["kind"] == "Pod"}
        for step in case.steps
    )

    assert "b" in before
    assert "b" not in after
    assert after["a"]["metadata"] == {"namespace": "x", "name": "a", "labels": {"k": "v"}}
    assert "phase" not in after["a"]["status"]
    assert before["a"]["status"]["phase"] == "Running", "an earlier step's objects stay as they were"


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("{from: x/a, to: x/b, port: 80}", "needs either allowed or denied"),
        ("{from: x/a, to: x/b, port: 80, allowed: true, denied: []}", "needs either allowed or denied"),
        ("{from: x/a, to: x/b, port: 80, allowed: yep}", "must be a list"),
        ("{from: x/a, to: x/b, port: 80, allow: true}", "does not know allow"),
        ("{from: x/a, port: 80, allowed: true}", "lacks to"),
        ("{from: x/q, to: x/b, port: 80, allowed: true}", "x/q is neither an address nor a pod"),
        (
            "{from: 10.0.0.256, to: x/b, port: 80, allowed: true}",
            "10.0.0.256 is neither an address nor a pod",
        ),
        ("{from: [x/a, x/a], to: x/b, port: 80, allowed: true}", "an end stands twice"),
        ("{from: [], to: x/b, port: 80, allowed: true}", "empty"),
        ("{from: x/four, to: x/b, port: 80, families: [6], allowed: true}", "x/four has no IPv6 address"),
        ("{from: x/new, to: x/b, port: 80, allowed: true}", "x/new has no address"),
        ("{from: x/a, to: x/b, port: 80, families: [5], allowed: true}", "must be 4 or 6"),
        ("{from: x/a, to: x/b, allowed: true}", "need a port"),
        ("{from: x/a, to: x/b, ports: [], allowed: true}", "is empty"),
        ("{from: x/a, to: x/b, ports: [80, 80/TCP], allowed: true}", "stands twice"),
        ("{from: x/a, to: x/b, ports: [80], port: 81, allowed: true}", "ports excludes port"),
        ("{from: x/a, to: x/b, ports: [http], allowed: true}", "must be a port, port/protocol or a mapping"),
        ("{from: x/a, to: x/b, port: 80, protocol: Tcp, allowed: true}", "protocol 'Tcp' must be"),
        ("{from: x/a, to: x/b, protocol: ICMP, port: 80, allowed: true}", "other protocols have none"),
        ("{from: x/a, to: x/b, port: 80, icmp: {type: 8}, allowed: true}", "icmp needs protocol"),
        ("{from: x/a, to: x/b, port: 80/UDP, allowed: true}", "must be a whole number"),
        ("{from: x/a, to: x/b, port: 80, protocol: UDP, tcpFlags: [SYN], allowed: true}", "tcpFlags needs"),
        ("{from: x/a, to: x/b, port: 80, tcpFlags: [SIN], allowed: true}", "must be among FIN, SYN"),
        ("{from: x/a, to: x/b, port: 80, allowed: [{to: x/four}]}", "match no cell"),
        ("{from: x/a, to: x/b, port: 80, allowed: [{ports: [81]}]}", "is not in the table's ports"),
        ("{from: x/a, to: x/b, port: 80, allowed: true, egress: open}", "must be a rule or one of"),
        (
            "{from: x/a, to: x/b, port: 80, allowed: true, egress: {kind: NetworkPolicy, name: n}}",
            "lacks rule",
        ),
    ],
)
def test_table_that_makes_no_sense_is_refused(tmp_path: Path, table: str, told: str) -> None:
    with pytest.raises(CaseError, match=r"file.yaml: ") as refusal:
        probes_of(tmp_path, table)

    assert told in str(refusal.value)


TRUTH = "truth: [{from: x/a, to: x/b, port: 80, allowed: true}]"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("", "needs either steps or truth"),
        ("truth: []", "is empty, so the step says nothing"),
        (f"because: no, {TRUTH}", "quote 'no'"),
        (f"because: none, {TRUTH}", "does not know because"),
        (f"name: two, {TRUTH}", "'name' stands twice"),
        (f"criteria: [first], {TRUTH}", "must be a whole number"),
        (f"objects: [{{kind: Service, metadata: {{name: s}}}}], {TRUTH}", "kind is 'Service'"),
        (f"objects: [{{kind: Namespace, metadata: {{name: x}}}}], {TRUTH}", "two objects Namespace/x"),
        (f"objects: [{{kind: Namespace, metadata: {{}}}}], {TRUTH}", "metadata.name must be a string"),
        (f"objects: [{{kind: Pod, metadata: {{name: p}}}}], {TRUTH}", "Pod p must have a metadata.namespace"),
        (
            f"steps: [{{name: s, delete: [{{kind: Node, metadata: {{name: n}}}}], {TRUTH}}}]",
            "no Node/n to delete",
        ),
        (
            f"steps: [{{name: s, patch: [{{kind: Node, metadata: {{name: n}}}}], {TRUTH}}}]",
            "no Node/n to patch",
        ),
        (f"objects: [{{kind: Node, metadata: {{name: 2026-01-01}}}}], {TRUTH}", "quote '2026-01-01'"),
        ("truth: [", "while parsing"),
    ],
)
def test_case_that_makes_no_sense_is_refused(tmp_path: Path, fields: str, told: str) -> None:
    with pytest.raises(CaseError) as refusal:
        load(tmp_path, f"- {{name: one, {fields}}}")

    assert told in str(refusal.value)


def test_two_cases_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="two cases of one name"):
        load(tmp_path, f"- {{name: one, {TRUTH}}}\n- {{name: one, {TRUTH}}}")


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "is empty"), ("[]", "must be a mapping"), ("{cluster: none-such, cases: []}", "no such cluster")],
)
def test_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(CaseError, match=told):
        load(tmp_path, "", objects=text)
