# SPDX-License-Identifier: Apache-2.0
"""`wildcardctl agents`: the agents of all nodes as one, for upgrades and for the end.

Agents keep enforcing when they stop, so taking them away takes two steps, and `remove` is the first: it lets
a pod on every node remove what is in the kernel. The chart calls both commands: `wait` before a new operator
starts, `remove` before the chart goes.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from wildcard_operator.cli.options import kubeconfig_option
from wildcard_operator.kube.api import MERGE_PATCH, NOT_FOUND, ApiError, Resource
from wildcard_operator.kube.client import HttpApi, load_configuration

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wildcard_operator.kube.api import Api, Json

DAEMON_SETS: Final = Resource("apps", "v1", "daemonsets", "DaemonSet")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
AGENT: Final = "wildcard-agent"
OPERATOR: Final = "wildcard-operator"
AGAIN_SECONDS: Final = 0.5
# What a container that only stands there doesn't need.
ONLY_OF_AGENTS: Final = frozenset(
    {"args", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "ports"}
)


class Spread(NamedTuple):
    """How far a DaemonSet's present version has come: numbers of nodes."""

    desired: int
    updated: int
    available: int

    @property
    def is_everywhere(self) -> bool:
        """Whether no pod of a former version is left."""
        return self.updated >= self.desired

    @property
    def is_done(self) -> bool:
        """Whether its pods are ready on all nodes, too."""
        return self.is_everywhere and self.available >= self.desired


class TooLateError(Exception):
    """It did not happen in time."""


@click.group("agents")
def agents_command() -> None:
    """Wait for the agents of all nodes, or take them away."""


_namespace = click.option(
    "--namespace", default="wildcard-operator", show_default=True, help="Where the agents run."
)


@agents_command.command("wait")
@kubeconfig_option
@_namespace
@click.option("--at-most", type=float, default=600, show_default=True, metavar="SECONDS", help="Then go on.")
def wait_command(kubeconfig: Path | None, namespace: str, at_most: float) -> None:
    """Wait until no agent of a former version is left.

    An agent that does not understand what a newer operator publishes isolates the pods that it concerns. A
    node that is down for long must not hold up an upgrade, though: after --at-most the command ends as well.
    """
    try:
        asyncio.run(_wait(kubeconfig, namespace, at_most))
    except TooLateError as late:
        click.echo(f"{late}; going on", err=True)
    except ApiError as error:
        raise click.ClickException(str(error)) from error


@agents_command.command("remove")
@kubeconfig_option
@_namespace
@click.option("--timeout", type=float, default=270, show_default=True, metavar="SECONDS", help="Then fail.")
def remove_command(kubeconfig: Path | None, namespace: str, timeout: float) -> None:
    """Stop enforcing on all nodes, and remove what is in their kernels.

    The operator is scaled down, and each agent makes way for a pod that cleans its node and then stands
    there, until the DaemonSet is deleted.
    """
    try:
        asyncio.run(_remove(kubeconfig, namespace, timeout))
    except (ApiError, TooLateError) as error:
        raise click.ClickException(str(error)) from error


async def _wait(kubeconfig: Path | None, namespace: str, seconds: float) -> None:
    async with HttpApi(await load_configuration(kubeconfig), "wildcardctl") as api:
        await _until(api, namespace, seconds, lambda spread: spread.is_everywhere)


async def _remove(kubeconfig: Path | None, namespace: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    async with HttpApi(await load_configuration(kubeconfig), "wildcardctl") as api:
        await _patch(api, DEPLOYMENTS.path(namespace, OPERATOR), {"spec": {"replicas": 0}})
        daemon_set = await _get(api, DAEMON_SETS.path(namespace, AGENT))
        if daemon_set is None:
            return
        await _patch(api, DAEMON_SETS.path(namespace, AGENT), cleaning(daemon_set))
        await _until(api, namespace, deadline - time.monotonic(), lambda spread: spread.is_done)


def cleaning(daemon_set: Json) -> Json:
    """The merge patch that makes agents' pods clean their nodes, all at once, and then stand there."""
    (agent,) = daemon_set["spec"]["template"]["spec"]["containers"]
    plain = {key: value for key, value in agent.items() if key not in ONLY_OF_AGENTS}
    remove = ["agent", "--cleanup", *(one for one in agent["args"] if one.startswith("--bpffs="))]
    return {
        "spec": {
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0},
            },
            "template": {
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "initContainers": [{**plain, "name": "remove", "args": remove}],
                    "containers": [{**plain, "command": ["sleep", "infinity"]}],
                }
            },
        }
    }


async def _until(api: Api, namespace: str, seconds: float, reached: Callable[[Spread], bool]) -> None:
    """Wait for the DaemonSet's spread; without a DaemonSet there is nothing to wait for.

    Raises TooLateError.
    """
    deadline = time.monotonic() + seconds
    said: Spread | None = None
    while (daemon_set := await _get(api, DAEMON_SETS.path(namespace, AGENT))) is not None:
        spread = spread_of(daemon_set)
        if spread is not None and reached(spread):
            return
        if spread is not None and spread != said:
            click.echo(f"{spread.updated} of {spread.desired} agents updated, {spread.available} available")
            said = spread
        if time.monotonic() > deadline:
            raise TooLateError(f"not within {seconds:.0f} s: {spread}")
        await asyncio.sleep(AGAIN_SECONDS)


def spread_of(daemon_set: Json) -> Spread | None:
    """How far it has come; None where its controller has not seen the present version yet."""
    status = daemon_set.get("status") or {}
    if status.get("observedGeneration", 0) < daemon_set["metadata"]["generation"]:
        return None
    names = ("desiredNumberScheduled", "updatedNumberScheduled", "numberAvailable")
    return Spread(*(int(status.get(name) or 0) for name in names))


async def _get(api: Api, path: str) -> Json | None:
    try:
        return await api.request("GET", path)
    except ApiError as error:
        if error.status == NOT_FOUND:
            return None
        raise


async def _patch(api: Api, path: str, body: Json) -> None:
    try:
        await api.request("PATCH", path, body=body, content_type=MERGE_PATCH)
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
