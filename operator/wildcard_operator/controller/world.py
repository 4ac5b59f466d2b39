# SPDX-License-Identifier: Apache-2.0
"""Where policies and filters have to be in force, and where they are: nodes, the pods on them, and the
agents' reports.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from wildcard_operator.model.objects import namespace_of
from wildcard_operator.model.rulesets import Nodes, Pods

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wildcard_operator.kube.api import Json
    from wildcard_operator.kube.nodestate import NodeReport
    from wildcard_operator.model.objects import Labels, Namespace, Node, Pod
    from wildcard_operator.model.rulesets import Namespaces

AGENT_LABELS = {"app.kubernetes.io/name": "wildcard-operator", "app.kubernetes.io/component": "agent"}

Place = tuple[str, "Labels", str]


class World:
    """The state that statuses and metrics are computed of. Each `set_` takes None for an object that is
    gone.
    """

    def __init__(self) -> None:
        self.reports: dict[str, NodeReport] = {}
        self._nodes: dict[str, Mapping[str, str]] = {}
        self._namespaces: dict[str, Namespace] = {}
        self._places: dict[tuple[str, str], Place] = {}
        # By namespace and labels: how many pods each node has of them.
        self._placed: dict[str, dict[Labels, Counter[str]]] = {}
        self._agents: dict[tuple[str, str], str] = {}

    def set_node(self, name: str, node: Node | None) -> None:
        """A node, with its labels."""
        if node is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = dict(node.labels)

    def set_namespace(self, name: str, namespace: Namespace | None) -> None:
        """A namespace, with its labels."""
        if namespace is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = namespace

    def set_pod(self, key: tuple[str, str], pod: Pod | None) -> None:
        """A pod: it counts while it is on a node, has not ended and has addresses of its own."""
        old = self._places.pop(key, None)
        if old is not None:
            self._leave(*old)
        if pod is not None and pod.node and not pod.terminal and not pod.host_network:
            self._places[key] = (pod.namespace, pod.labels, pod.node)
            in_namespace = self._placed.setdefault(pod.namespace, {})
            in_namespace.setdefault(pod.labels, Counter())[pod.node] += 1

    def set_agent(self, key: tuple[str, str], node: str | None) -> None:
        """The node whose agent's pod this is, where that pod is ready."""
        if node is None:
            self._agents.pop(key, None)
        else:
            self._agents[key] = node

    def set_report(self, node: str, report: NodeReport | None) -> None:
        """What a node's agent reports."""
        if report is None:
            self.reports.pop(node, None)
        else:
            self.reports[node] = report

    def ready_nodes(self) -> set[str]:
        """Nodes whose agent is ready."""
        return set(self._agents.values()) & self._nodes.keys()

    def node_names(self) -> set[str]:
        """All nodes."""
        return set(self._nodes)

    def nodes_for(self, subject: Pods | Nodes) -> set[str]:
        """The nodes where rules for this subject have to be in force."""
        if isinstance(subject, Nodes):
            return {name for name, labels in self._nodes.items() if subject.selector.matches(labels)}
        found: set[str] = set()
        for namespace in self._namespaces_in(subject.namespaces):
            for labels, nodes in self._placed[namespace].items():
                if not nodes.keys() <= found and subject.selector.matches(dict(labels)):
                    found |= nodes.keys()
        return found & self._nodes.keys()

    def nodes_of_namespace(self) -> dict[str, set[str]]:
        """The nodes with pods of each namespace that has pods."""
        return {
            name: set[str]().union(*in_namespace.values()) & self._nodes.keys()
            for name, in_namespace in self._placed.items()
        }

    def _leave(self, namespace: str, labels: Labels, node: str) -> None:
        in_namespace = self._placed[namespace]
        nodes = in_namespace[labels]
        nodes[node] -= 1
        if not nodes[node]:
            del nodes[node]
        if not nodes:
            del in_namespace[labels]
        if not in_namespace:
            del self._placed[namespace]

    def _namespaces_in(self, wanted: Namespaces) -> list[str]:
        """The namespaces with pods that are meant."""
        if wanted.name:
            return [wanted.name] if wanted.name in self._placed else []
        known = {name: self._namespaces.get(name) or namespace_of(name) for name in self._placed}
        return [name for name, one in known.items() if wanted.selector.matches(dict(one.labels))]


def ready_agent(pod: Json, namespace: str) -> str | None:
    """The node of a pod that is a ready agent's; the agents run in this namespace."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    if metadata.get("namespace") != namespace or not AGENT_LABELS.items() <= labels.items():
        return None
    conditions = status.get("conditions") or []
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    node: str | None = (pod.get("spec") or {}).get("nodeName")
    return node if ready else None
