# SPDX-License-Identifier: Apache-2.0
"""The clusters of `tests/cases` behind a real API server: operator and agents see the objects through it
alone.
"""

from __future__ import annotations

import copy
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from support.casecluster import NODES as CASE_NODES
from support.casecluster import CaseCluster
from support.cases import KINDS, change_between, key_of
from support.kubenodes import KubeCluster
from support.restclient import RESOURCES, RestClient
from support.waiting import wait_until, wait_until_still
from wildcard_operator.kube.api import PODS, UNPROCESSABLE, ApiError

if TYPE_CHECKING:
    from support.cases import Step
    from support.controlplane import ControlPlane
    from support.operators import OperatorProcess

Object = dict[str, Any]
# Nothing may have happened for so long before the cluster counts as settled.
QUIET_SECONDS = 0.15
PATIENCE_SECONDS = 20


class ApiCluster(CaseCluster):
    """A live cluster that goes from one step's state to another's through the API server."""

    def __init__(self, plane: ControlPlane, operator: OperatorProcess) -> None:
        super().__init__()
        self._plane = plane
        self._operator = operator

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            kube = stack.enter_context(KubeCluster(self._plane))
            for name, cni in CASE_NODES.items():
                kube.add_node(name, cni)
            self.fabric = kube.fabric
            self.nodes = {name: one.node for name, one in kube.nodes.items()}
            self.agents = [ApiFeed(self._plane, self._operator, kube)]
            stack.callback(self.agents[0].close)
            self._stack = stack.pop_all()
        return self

    def wrong_answers(self, step: Step) -> list[str]:
        """What is wrong for long: quiet is a cluster too that has not heard of a change yet."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (wrong := super().wrong_answers(step)) and time.monotonic() < deadline:
            pass
        return wrong


class ApiFeed:
    """Makes the API server hold the objects of a step."""

    def __init__(self, plane: ControlPlane, operator: OperatorProcess, kube: KubeCluster) -> None:
        self._plane = plane
        self._operator = operator
        self._kube = kube
        self._client = RestClient(plane)
        self._state: tuple[Object, ...] = ()
        self._fresh: set[str] = set()

    def close(self) -> None:
        """Delete what was written."""
        self.apply()
        self._client.close()

    def apply(self, *objects: Object) -> None:
        """Go to a state, and wait until operator and agents have nothing left to do."""
        change = change_between(self._state, objects)
        before = {key_of(item): item for item in self._state}
        for kind, namespace, name in change.deleted:
            if kind not in {"Namespace", "Node"}:  # these stay: deleting a namespace takes its time
                self._client.delete(RESOURCES[kind], namespace, name)
        self._fresh = set()
        for item in sorted(change.applied, key=created):
            self._write(item, before.get(key_of(item)))
        self._state = objects
        self._wait_until_quiet()

    def _write(self, item: Object, before: Object | None) -> None:
        item = copy.deepcopy(item)
        if item["kind"] == "Pod":
            self._write_pod(item, before)
            return
        try:
            self._client.put(item)
        except ApiError as error:
            if error.status != UNPROCESSABLE or item["kind"] != "NetworkPolicy":
                raise
            self._client.store(item, {"podSelector": {}})  # what an older API server has accepted
        if item["kind"] == "Namespace":
            name = item["metadata"]["name"]
            path = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            wait_until(lambda: self._client.exists(path), 60, f"{name} has a ServiceAccount", every=0.01)

    def _write_pod(self, item: Object, before: Object | None) -> None:
        metadata = item["metadata"]
        is_to_go = metadata.pop("deletionTimestamp", None) is not None
        metadata.pop("deletionGracePeriodSeconds", None)
        if before is not None and is_another_pod(before, item):
            self._client.delete(PODS, metadata["namespace"], metadata["name"])
            before = None
        metadata.pop("creationTimestamp", None)
        if before is None:
            self._wait_for_a_later_second(item)
            self._client.create(item)
        else:
            self._client.put(item)
        if is_to_go:
            self._client.delete(PODS, metadata["namespace"], metadata["name"], grace=3600)

    def _wait_for_a_later_second(self, item: Object) -> None:
        """Of two pods with one address the newer counts, and the API server writes times in seconds."""
        mine = addresses_of(item)
        others = [one for one in self._state if one["kind"] == "Pod" and mine & addresses_of(one)]
        if others or mine & self._fresh:
            second = int(time.time())
            wait_until(lambda: int(time.time()) > second, 2, "a second has passed", every=0.01)
        self._fresh |= mine

    def _wait_until_quiet(self) -> None:
        """Until the operator has nothing to write, and nobody has changed anything for a while."""
        is_quiet = False
        while not is_quiet:
            wait_until(self._operator.settled, 60, "all is written")
            wait_until_still(self._activity, QUIET_SECONDS, 60, "the cluster has settled")
            is_quiet = self._operator.settled()  # removals are put off

    def _activity(self) -> tuple[object, ...]:
        agents = tuple(kube.value("wildcard_commits_total") for kube in self._kube.nodes.values())
        return self._operator.writes(), *agents


def is_another_pod(old: Object, new: Object) -> bool:
    """Whether a pod is a new one of the same name: what can't change in a pod differs."""
    times = [one["metadata"].get("creationTimestamp") for one in (old, new)]
    return old["spec"] != new["spec"] or times[0] != times[1]


def addresses_of(item: Object) -> set[str]:
    """The addresses that a pod reports."""
    return {one["ip"] for one in item.get("status", {}).get("podIPs", [])}


def created(item: Object) -> tuple[int, str]:
    """Sorts objects as they have to be written: by kind, pods by age."""
    return KINDS.index(item["kind"]), str(item["metadata"].get("creationTimestamp", ""))
