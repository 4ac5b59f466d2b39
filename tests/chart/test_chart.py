# SPDX-License-Identifier: Apache-2.0
"""The chart against its schema, a real API server, and the programs that it starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml

from support.chart import HelmError, find, helm, render
from support.manifests import CHART, CRDS, NAMESPACE
from wildcard_operator.cli import agent, ctl, operator
from wildcard_operator.cli.agents import cleaning
from wildcard_operator.controller.world import AGENT_LABELS
from wildcard_operator.datapath.errors import DatapathError
from wildcard_operator.datapath.requirements import check_capabilities

if TYPE_CHECKING:
    from support.controlplane import ControlPlane

HERE = Path(__file__).parent
MATRIX = yaml.safe_load((HERE / "matrix.yaml").read_text())
REFUSED = yaml.safe_load((HERE / "refused_values.yaml").read_text())
PROGRAMS = {"agent": agent.main, "operator": operator.main, "ctl": ctl.main}

matrix = pytest.mark.parametrize(
    "values", [case["values"] for case in MATRIX], ids=[c["name"] for c in MATRIX]
)


def test_helm_finds_nothing_to_complain_about() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case['says']} {case['values']}")
def test_a_wrong_value_is_refused_by_name(case: dict[str, Any]) -> None:
    with pytest.raises(HelmError, match=case["says"]):
        render(case["values"])


@matrix
def test_the_api_server_takes_every_object(server: ControlPlane, values: dict[str, Any]) -> None:
    documents = render(values)
    text = yaml.safe_dump_all(documents)

    server.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)


@matrix
def test_every_argument_is_one_that_the_program_knows(values: dict[str, Any]) -> None:
    commands = [
        container["args"]
        for document in render(values)
        for container in containers_of(document)
        if container.get("args", [""])[0] in PROGRAMS
    ]

    assert len(commands) >= 3
    for program, *arguments in commands:
        expand(PROGRAMS[program], arguments)


def expand(command: click.Command, arguments: list[str]) -> None:
    """Parse a command line down to the last subcommand; click raises where it doesn't understand."""
    with command.make_context("test", list(arguments)) as context:
        if isinstance(command, click.Group):
            name, child, rest = command.resolve_command(context, arguments)
            assert child is not None, name
            expand(child, rest)


def containers_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    spec = document.get("spec") or {}
    pod = spec.get("template", {}).get("spec", spec if document["kind"] == "Pod" else {})
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


def test_the_definitions_are_those_of_the_repository() -> None:
    ours = {path.name: path.read_text() for path in CRDS.glob("*.yaml")}

    assert {path.name: path.read_text() for path in (CHART / "files/crds").glob("*.yaml")} == ours
    rendered = [one for one in render() if one["kind"] == "CustomResourceDefinition"]
    for one in rendered:
        one["metadata"].pop("annotations", None)
    assert sorted(map(yaml.safe_dump, rendered)) == sorted(
        yaml.safe_dump(yaml.safe_load(text)) for text in ours.values()
    )


def test_only_what_users_wrote_is_kept_when_the_release_goes() -> None:
    kept = [
        one["spec"]["names"]["kind"]
        for one in render()
        if one["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    ]

    assert kept == ["WildcardFilter"]


def test_the_agent_has_exactly_the_capabilities_that_it_asks_for() -> None:
    with pytest.raises(DatapathError) as missing:
        check_capabilities("CapEff: 0\n")
    asked = set(re.findall(r"CAP_(\w+)", str(missing.value)))
    (container,) = find(render(), "DaemonSet", "wildcard-agent")["spec"]["template"]["spec"]["containers"]

    assert container["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsUser": 0,
        "capabilities": {"drop": ["ALL"], "add": sorted(asked)},
    }


def test_all_other_containers_have_no_privileges_at_all() -> None:
    for document in render():
        for container in containers_of(document):
            if container["name"] != "agent":
                context = container["securityContext"]
                assert context["runAsNonRoot"], container["name"]
                assert context["readOnlyRootFilesystem"], container["name"]
                assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]


def test_every_pod_has_the_runtimes_seccomp_profile() -> None:
    for document in render():
        if containers_of(document):
            pod = document["spec"].get("template", {}).get("spec", document["spec"])
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, document[
                "metadata"
            ]


def test_the_operator_finds_the_agents_by_their_labels() -> None:
    template = find(render(), "DaemonSet", "wildcard-agent")["spec"]["template"]

    assert AGENT_LABELS.items() <= template["metadata"]["labels"].items()


def test_cleaning_a_node_takes_the_agents_own_image_and_rights() -> None:
    daemon_set = find(render(), "DaemonSet", "wildcard-agent")
    (agents,) = daemon_set["spec"]["template"]["spec"]["containers"]
    pod = cleaning(daemon_set)["spec"]["template"]["spec"]
    (cleaner,), (standing,) = pod["initContainers"], pod["containers"]

    assert cleaner["args"] == ["agent", "--cleanup", "--bpffs=/run/bpffs"]
    expand(agent.main, cleaner["args"][1:])
    for container in (cleaner, standing):
        assert {key: container[key] for key in ("image", "securityContext", "volumeMounts")} == {
            key: agents[key] for key in ("image", "securityContext", "volumeMounts")
        }


def test_everything_lies_in_the_releases_namespace() -> None:
    namespaces = {one["metadata"].get("namespace") for one in render()} - {None}

    assert namespaces == {NAMESPACE, "default"}  # Events about cluster-wide objects stand in `default`
