# SPDX-License-Identifier: Apache-2.0
"""`wildcard-agent`: builds the agent of one node and runs it in the network namespace of its start."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import structlog
from prometheus_client import CollectorRegistry

from wildcard_operator.agent.agent import Agent
from wildcard_operator.agent.endpoints import serving
from wildcard_operator.agent.manifests import ManifestSource
from wildcard_operator.agent.outlet import Silent
from wildcard_operator.agent.readings import Readings
from wildcard_operator.cli.allocator import save_memory
from wildcard_operator.compiler.config import NodeConfig, UnknownPodsMode
from wildcard_operator.compiler.node import NodeCompiler
from wildcard_operator.datapath import requirements
from wildcard_operator.datapath.abi import abi
from wildcard_operator.datapath.errors import DatapathError
from wildcard_operator.datapath.host import Netlink
from wildcard_operator.datapath.maps import Capacities, NodeMaps
from wildcard_operator.datapath.nftables import NftCommand, Tables
from wildcard_operator.datapath.node import NodeDatapath
from wildcard_operator.datapath.pins import Pins
from wildcard_operator.datapath.prefilter import Prefilter
from wildcard_operator.datapath.programs import Control, Programs
from wildcard_operator.telemetry import logs
from wildcard_operator.telemetry.metrics import AgentInstruments, NodeCollector
from wildcard_operator.wildcardmap.errors import WildcardError
from wildcard_operator.wildcardmap.libbpf import LoadError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wildcard_operator.agent.outlet import Outlet
    from wildcard_operator.agent.source import Source

DEFAULT_BPFFS: Final = "/sys/fs/bpf"
CAPACITIES: Final = Capacities()
log = structlog.get_logger(__name__)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--manifests",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of Pods, Namespaces, Nodes, NetworkPolicies and WildcardFilters (YAML, JSON); followed.",
)
@click.option("--kubernetes", is_flag=True, help="Follow the API server instead of a folder.")
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="How to reach the API server; in a pod, its service account by default.",
)
@click.option("--namespace", default="wildcard-operator", help="The operator's, where it publishes.")
@click.option("--node", help="Name of this node, as in the Pods' spec.nodeName.")
@click.option(
    "--bpffs",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_BPFFS,
    help="A bpffs; what is pinned below it keeps enforcing while no agent runs.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Serve /metrics, /readyz and /healthz; 0 does not.",
)
@click.option(
    "--unknown-pods",
    type=click.Choice([mode.value for mode in UnknownPodsMode]),
    default=UnknownPodsMode.AUTO.value,
    help="What becomes of addresses of this node's pod ranges that no pod has yet.",
)
@click.option(
    "--established",
    type=click.Choice(["judge", "pass"]),
    default="judge",
    help="Whether a change of policy cuts connections that are open already.",
)
@click.option(
    "--max-rules", type=click.IntRange(64, 1 << 20), default=CAPACITIES.rules, help="Entries a family."
)
@click.option(
    "--max-addresses", type=click.IntRange(64, 1 << 22), default=CAPACITIES.addresses, help="Addresses known."
)
@click.option("--cleanup", is_flag=True, help="Stop enforcing: remove all that an agent left here, and exit.")
def main(  # noqa: PLR0913, PLR0917 - one parameter an option
    manifests: Path | None,
    kubernetes: bool,
    kubeconfig: Path | None,
    namespace: str,
    node: str | None,
    bpffs: Path,
    metrics_port: int,
    unknown_pods: str,
    established: str,
    max_rules: int,
    max_addresses: int,
    cleanup: bool,
) -> None:
    """Enforce network policies on this node.

    A stop leaves enforcement in place, a new start takes it up again. Needs CAP_BPF, CAP_NET_ADMIN and
    CAP_PERFMON.
    """
    logs.configure()
    save_memory()
    try:
        requirements.check_capabilities()
        if cleanup:
            clean_up(bpffs)
            return
        if node is None or kubernetes == (manifests is not None):
            raise click.UsageError("--node and either --kubernetes or --manifests are needed")
        config = NodeConfig(unknown_pods=UnknownPodsMode(unknown_pods))
        capacities = Capacities(rules=max_rules, addresses=max_addresses)
        source, outlet = follow(manifests, kubeconfig, node, namespace)
        with running_node(source, node, bpffs, config, capacities, established, outlet) as built:
            agent, registry = built
            with ExitStack() as stack:
                if metrics_port:
                    stack.enter_context(serving(metrics_port, registry, agent.ready, agent.busy_seconds))
                agent.run(stack.enter_context(stop_signals()))
    except DatapathError as error:
        log.critical("cannot enforce", reason=error.condition.reason.value, message=str(error))
        sys.exit(1)
    except (WildcardError, LoadError, OSError) as error:
        log.critical("cannot enforce", message=str(error))
        sys.exit(1)


def follow(
    manifests: Path | None, kubeconfig: Path | None, node: str, namespace: str
) -> tuple[Source, Outlet]:
    """Where the objects come from, and who is told what became of them."""
    if manifests is not None:
        return ManifestSource(manifests, node), Silent()
    # The Kubernetes client takes 30 MiB, which a node without a cluster needs not have.
    from wildcard_operator.agent.kubernetes import KubernetesSource  # noqa: PLC0415 - as said

    source = KubernetesSource(kubeconfig, node, namespace)
    source.start()
    return source, source


@contextmanager
def running_node(
    source: Source,
    node: str,
    bpffs: Path,
    config: NodeConfig,
    capacities: Capacities,
    established: str = "judge",
    outlet: Outlet | None = None,
) -> Iterator[tuple[Agent, CollectorRegistry]]:
    """All parts of a node's agent, put together; what is pinned stays when it ends."""
    with ExitStack() as stack:
        stack.callback(source.close)
        requirements.check_bpffs(bpffs)
        pins = Pins(bpffs, abi().layout_version)
        pins.create()
        maps = NodeMaps(pins, capacities)
        stack.callback(maps.close)
        control = Control(pins)
        stack.callback(control.close)
        control.set("established", abi().established[established])
        network, nftables = Netlink(), NftCommand()
        stack.callback(network.close)
        stack.callback(nftables.close)
        prefilter = Prefilter(pins, maps.bind)
        stack.callback(prefilter.close)
        programs = Programs(pins, control, maps.bind, maps.group.wait_for_readers)
        readings = Readings(maps)
        registry = CollectorRegistry()
        registry.register(NodeCollector(readings))
        yield (
            Agent(
                source,
                NodeCompiler(node, config, maps.read_names()),
                NodeDatapath(maps, programs, prefilter, Tables(nftables), network),
                network,
                nftables,
                readings,
                AgentInstruments(registry),
                outlet or Silent(),
            ),
            registry,
        )


def clean_up(bpffs: Path) -> None:
    """Detach everything, unpin everything, and take our nftables tables away."""
    pins = Pins(bpffs, abi().layout_version)
    pins.remove()
    nftables = NftCommand()
    try:
        Tables(nftables).remove()
    finally:
        nftables.close()
    log.info("nothing is enforced any more", pins=str(pins.base))


@contextmanager
def stop_signals() -> Iterator[int]:
    """A descriptor that becomes readable on SIGTERM and SIGINT."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signals = (signal.SIGTERM, signal.SIGINT)
    former = {number: signal.signal(number, lambda *_: None) for number in signals}
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in former.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
