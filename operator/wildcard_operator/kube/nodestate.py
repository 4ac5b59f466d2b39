# SPDX-License-Identifier: Apache-2.0
"""NodeState: what an agent reports of its node, written sparingly, and read by the operator and `wildcardctl
status`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wildcard_operator.kube.api import APPLY_PATCH, NODE_STATES, NOT_FOUND, ApiError, Json
from wildcard_operator.kube.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wildcard_operator.kube.api import Api

FIELD_MANAGER = "wildcard-agent"
ENFORCING = "Enforcing"
SYNCED = "Synced"
MAX_EXCEPTIONS = 64
WRITE_INTERVAL_SECONDS = 5.0


@dataclass(frozen=True, slots=True, order=True)
class FilterState:
    """How far one generation of a WildcardFilter is in force on the node."""

    name: str
    generation: int
    programmed: bool
    entries: int = 0
    reason: str = ""
    message: str = ""

    def to_dict(self) -> Json:
        """As it stands in a NodeState."""
        state: Json = {"name": self.name, "generation": self.generation, "programmed": self.programmed}
        state["entries"] = self.entries
        if self.reason:
            state |= {"reason": self.reason, "message": self.message}
        return state


@dataclass(frozen=True, slots=True, order=True)
class PolicyException:
    """A NetworkPolicy that is not in force as it is written."""

    namespace: str
    name: str
    reason: str
    message: str

    def to_dict(self) -> Json:
        """As it stands in a NodeState."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "reason": self.reason,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True, order=True)
class NodeCondition:
    """Whether something holds on the node, and why."""

    type: str
    holds: bool
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """The content of a NodeState's status.

    Attributes:
        revision: Every RuleSet up to this resourceVersion is in force, but for the exceptions.
        interfaces: Name and XDP mode of each host interface with a filter.
    """

    agent_version: str = ""
    revision: int = 0
    exceptions: tuple[PolicyException, ...] = ()
    filters: tuple[FilterState, ...] = ()
    interfaces: tuple[tuple[str, str], ...] = ()
    conditions: tuple[NodeCondition, ...] = ()

    def holds(self, condition: str) -> bool:
        """Whether a condition is given as true."""
        return any(one.type == condition and one.holds for one in self.conditions)

    def to_status(self, previous: Json | None, now: str) -> Json:
        """The status; conditions that hold as before keep the time of their last transition."""
        before = {one["type"]: one for one in (previous or {}).get("conditions", [])}
        return {
            "agentVersion": self.agent_version,
            "policies": {
                "revision": str(self.revision),
                "exceptions": [one.to_dict() for one in self.exceptions[:MAX_EXCEPTIONS]],
            },
            "filters": [one.to_dict() for one in self.filters],
            "interfaces": [{"name": name, "mode": mode} for name, mode in self.interfaces],
            "conditions": [
                condition_dict(one.type, one.holds, one.reason, one.message, before.get(one.type), now)
                for one in self.conditions
            ],
        }


def condition_dict(
    kind: str, holds: bool, reason: str, message: str, before: Json | None, now: str
) -> Json:  # fmt: skip
    """A condition as Kubernetes writes it; its time changes with its status only."""
    status = "True" if holds else "False"
    since = before["lastTransitionTime"] if before is not None and before.get("status") == status else now
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }


def utc_now() -> str:
    """The time, as Kubernetes writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_node_state(item: Json) -> NodeReport:
    """What a NodeState says; what is missing or misshaped in it counts as not said."""
    status = item.get("status") or {}
    policies = status.get("policies") or {}
    revision = str(policies.get("revision", ""))
    return NodeReport(
        agent_version=status.get("agentVersion", ""),
        revision=int(revision) if revision.isdecimal() else 0,
        exceptions=tuple(
            PolicyException(one["namespace"], one["name"], one["reason"], one["message"])
            for one in policies.get("exceptions", [])
        ),
        filters=tuple(
            FilterState(
                one["name"],
                one["generation"],
                one["programmed"],
                one.get("entries", 0),
                one.get("reason", ""),
                one.get("message", ""),
            )
            for one in status.get("filters", [])
        ),
        interfaces=tuple((one["name"], one["mode"]) for one in status.get("interfaces", [])),
        conditions=tuple(
            NodeCondition(one["type"], one["status"] == "True", one["reason"], one["message"])
            for one in status.get("conditions", [])
        ),
    )


class NodeStateWriter:
    """Keeps the NodeState of one node equal to the last report.

    It is written at most once in WRITE_INTERVAL_SECONDS, but at once when a condition changes.
    """

    def __init__(
        self, api: Api, node: str, *, on_error: Callable[[ApiError], None] = lambda _error: None
    ) -> None:
        self._api = api
        self._node = node
        self._on_error = on_error
        self._report: NodeReport | None = None
        self._written: NodeReport | None = None
        self._status: Json | None = None
        self._owner: str | None = None
        self._object_owner: str | None = None
        self._changed = asyncio.Event()
        self._next = 0.0
        self._backoff = Backoff()

    def set_owner(self, node_uid: str) -> None:
        """The Node of this uid owns the NodeState: they go together."""
        if node_uid != self._owner:
            self._owner = node_uid
            self._changed.set()

    def report(self, report: NodeReport) -> None:
        """This is what holds on the node now."""
        self._report = report
        self._changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._changed.wait()
            await self._wait_for_turn()
            self._changed.clear()
            report = self._report
            if report is None or self._owner is None or not self._is_news(report):
                continue
            try:
                await self._write(report, self._owner)
                self._backoff.reset()
            except ApiError as error:
                self._on_error(error)
                if error.status == NOT_FOUND:
                    self._object_owner = None
                self._changed.set()
                await asyncio.sleep(self._backoff.delay(error.retry_after))

    def _is_news(self, report: NodeReport) -> bool:
        return report != self._written or self._object_owner != self._owner

    async def _wait_for_turn(self) -> None:
        """Until the interval has passed, or a condition differs from the written one."""
        while (left := self._next - time.monotonic()) > 0:
            report, written = self._report, self._written
            if report is None or written is None or _kinds(report.conditions) != _kinds(written.conditions):
                return
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return

    async def _write(self, report: NodeReport, owner: str) -> None:
        if self._object_owner != owner:
            reference = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": owner}
            answer = await self._apply({"metadata": {"ownerReferences": [reference]}}, None)
            self._object_owner = owner
            self._status = self._status or answer.get("status")
        status = report.to_status(self._status, utc_now())
        await self._apply({"metadata": {}, "status": status}, "status")
        self._status, self._written = status, report
        self._next = time.monotonic() + WRITE_INTERVAL_SECONDS

    async def _apply(self, content: Json, subresource: str | None) -> Json:
        body = {"apiVersion": NODE_STATES.api_version, "kind": NODE_STATES.kind, **content}
        body["metadata"] = {**content["metadata"], "name": self._node}
        return await self._api.request(
            "PATCH",
            NODE_STATES.path(name=self._node, subresource=subresource),
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=body,
            content_type=APPLY_PATCH,
        )


def _kinds(conditions: Iterable[NodeCondition]) -> set[tuple[str, bool, str]]:
    """What counts as a change of a condition: its message may carry figures that always change."""
    return {(one.type, one.holds, one.reason) for one in conditions}
