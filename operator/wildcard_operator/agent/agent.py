# SPDX-License-Identifier: Apache-2.0
"""The agent's loop: what changed goes through the compiler into the kernel.

It knows nothing of where objects come from (`Source`) or how a kernel is made to judge (`NodeDatapath`). One
thread; the kernel keeps judging by the last commit whatever happens here.
"""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING, Final

import structlog

from wildcard_operator.compiler.events import Event, Interface, InterfacesSet, Routes
from wildcard_operator.datapath.errors import DatapathError
from wildcard_operator.wildcardmap.errors import WildcardError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wildcard_operator.agent.outlet import Outlet
    from wildcard_operator.agent.readings import Readings
    from wildcard_operator.agent.source import Problem, Source
    from wildcard_operator.compiler.node import NodeCompiler
    from wildcard_operator.datapath.errors import NodeCondition
    from wildcard_operator.datapath.host import HostNetwork, HostState
    from wildcard_operator.datapath.nftables import Nftables
    from wildcard_operator.datapath.node import NodeDatapath
    from wildcard_operator.model.entries import Condition, NodeDelta
    from wildcard_operator.telemetry.metrics import AgentInstruments

_RETRY_SECONDS: Final = 1.0
_GATHER_SECONDS: Final = 0.005
"""Changes come in bursts: a moment's wait makes one commit of many."""

log = structlog.get_logger(__name__)


class Agent:
    """Follows a source and the host, and keeps the kernel's tables right.

    `run` works until `stop` is readable; `turn` is one round of it.
    """

    def __init__(
        self,
        source: Source,
        compiler: NodeCompiler,
        datapath: NodeDatapath,
        network: HostNetwork,
        nftables: Nftables,
        readings: Readings,
        instruments: AgentInstruments,
        outlet: Outlet,
    ) -> None:
        self._source = source
        self._compiler = compiler
        self._datapath = datapath
        self._network = network
        self._nftables = nftables
        self._readings = readings
        self._instruments = instruments
        self._outlet = outlet
        self._started = False
        self._whole = True
        self._insecure = True
        self._attached = False
        self._busy_since: float | None = None
        self._host: HostState | None = datapath.host
        self._problems: set[Problem] = set()
        self._conditions: set[NodeCondition | Condition] = set()
        self._remarks: tuple[Condition, ...] = ()

    def ready(self) -> bool:
        """Whether the kernel judges by this agent's tables; any thread may ask."""
        return self._started and self._attached

    def busy_seconds(self) -> float:
        """How long the present turn has lasted, 0 between turns; any thread may ask."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def run(self, stop: int) -> None:
        """Work until the descriptor `stop` is readable."""
        with selectors.DefaultSelector() as selector:
            for watched in (self._source.fileno(), self._network.fileno(), self._nftables.fileno(), stop):
                selector.register(watched, selectors.EVENT_READ)
            self.turn(host=True, tables=True)
            while True:
                timeout = _RETRY_SECONDS if self._whole or self._insecure else None
                ready = {key.fd for key, _ in selector.select(timeout)}
                if stop in ready:
                    return
                if ready:
                    time.sleep(_GATHER_SECONDS)
                self.turn(host=self._network.fileno() in ready, tables=self._nftables.fileno() in ready)

    def turn(self, *, host: bool, tables: bool) -> None:
        """Take in what changed, and bring it into the kernel.

        `host`, `tables`: the host's network, or somebody's nftables rules, changed.
        """
        seen = self._busy_since = time.monotonic()
        events = list(self._source.poll())
        if host:
            self._network.drain()
            found = self._datapath.look_at_host()
            if self._host is not None or found != self._datapath.host:
                self._host = found
                events += host_events(found)
        if tables:
            self._nftables.drain()
        for event in events:
            self._compiler.apply(event)
        committed = self._source.synced() and bool(events or self._whole) and self._program()
        if self._started and (committed or host or tables or self._insecure):
            self._secure(disturbed=tables)
        if committed:
            self._instruments.commits.inc()
            self._instruments.latency.observe(time.monotonic() - seen)
        self._report()

    def _program(self) -> bool:
        """Bring what the compiler has into the kernel; whether anything was."""
        delta = self._compiler.delta()
        if not self._started:
            # Rules that came back with this delta have taken up their counters; the others are gone for good.
            self._compiler.forget_old_rules()
        if delta.conditions is not None:
            self._remarks = delta.conditions
        try:
            return self._commit(delta)
        except (WildcardError, OSError) as error:
            self._whole = True
            self._instruments.errors.labels("commit").inc()
            log.critical("change refused, the former state stays in force", error=str(error))
            return False

    def _commit(self, delta: NodeDelta) -> bool:
        """Whether the kernel had to be changed.

        After a failure a delta says too little: then the whole is put in place.
        """
        if self._whole:
            tables = self._compiler.tables()
            self._datapath.start(tables, self._host or self._datapath.host)
            self._whole, self._started = False, True
            self._outlet.restarted(tables)
        else:
            changed = bool(delta) or self._host is not None
            if changed:
                self._datapath.commit(delta, self._host)
            # What changes nothing here is in force as well.
            self._outlet.committed(delta)
            if not changed:
                return False
        self._host = None
        self._readings.rules_changed(delta.rules_added, delta.rules_removed)
        return True

    def _secure(self, *, disturbed: bool) -> None:
        try:
            conditions = self._datapath.secure(disturbed=disturbed)
        except (DatapathError, OSError) as error:
            self._insecure, self._attached = True, False
            self._instruments.errors.labels("attach").inc()
            log.critical("enforcement is not complete", error=str(error))
            if isinstance(error, DatapathError):
                self._outlet.secured((error.condition,), self._remarks, self._datapath.xdp_modes)
            return
        # Our own tables are news to us as well.
        self._nftables.drain()
        self._insecure, self._attached = bool(conditions), True
        self._tell("condition", conditions, self._remarks)
        self._readings.conditions_are(conditions)
        self._outlet.secured(conditions, self._remarks, self._datapath.xdp_modes)

    def _tell(self, event: str, conditions: Iterable[NodeCondition], remarks: Iterable[Condition]) -> None:
        now: set[NodeCondition | Condition] = {*conditions, *remarks}
        for condition in sorted(now - self._conditions, key=repr):
            log.warning(event, reason=condition.reason.value, message=condition.message)
        self._conditions = now

    def _report(self) -> None:
        problems = set(self._source.problems())
        for problem in sorted(problems - self._problems):
            log.error("not in force as written", problem=problem.text, reason=problem.reason)
        for problem in sorted(self._problems - problems):
            log.info("in force again", problem=problem.text)
        self._problems = problems
        self._readings.problems_are(problems)


def host_events(host: HostState) -> list[Event]:
    """What the compiler needs to know of the host's network."""
    leads_to_pods = set(host.routes.values()) | host.behind.keys()
    behind = (address for addresses in host.behind.values() for address in addresses)
    interfaces = frozenset(
        Interface(link.name, link.index in host.primary)
        for link in host.links.values()
        if link.index in host.primary or link.index not in leads_to_pods
    )
    return [Routes(frozenset({*host.routes, *behind})), InterfacesSet(interfaces)]
