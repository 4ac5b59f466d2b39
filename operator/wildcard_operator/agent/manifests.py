# SPDX-License-Identifier: Apache-2.0
"""The source of objects without Kubernetes: a folder of manifests, compiled in this process.

It follows Pods (with `status.podIPs` and `spec.nodeName`), Namespaces, Nodes, NetworkPolicies and
WildcardFilters. An object that is refused stays in force as it was when it was last good; a policy that never
was isolates the pods that it selects, as far as that can be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wildcard_operator.agent.folder import Folder, FolderWatch
from wildcard_operator.agent.source import Problem
from wildcard_operator.compiler.cluster import reference
from wildcard_operator.compiler.events import Event, Synced
from wildcard_operator.compiler.manifests import Manifests, flatten, of_node
from wildcard_operator.model.errors import ObjectRef, Refusal, RefusedError

if TYPE_CHECKING:
    from pathlib import Path

Placed = tuple[str, Any]
"""An object and the file that it stands in."""


class ManifestSource:
    """A folder as the source of one node's objects. Raises OSError where the folder can't be followed."""

    def __init__(self, path: Path, node: str) -> None:
        self._node = node
        self._watch = FolderWatch(path)
        self._path = path
        self._folder = Folder(path)
        self._missing: list[Problem] = []
        self._manifests = Manifests()
        self._good: dict[ObjectRef, Any] = {}
        self._refused: list[Problem] = []
        self._read = False

    def fileno(self) -> int:
        """Readable when the folder changed."""
        return self._watch.fileno()

    def synced(self) -> bool:
        """Whether the folder was read once."""
        return self._read

    def problems(self) -> list[Problem]:
        """What is wrong with the files at present."""
        return sorted([*self._missing, *self._folder.problems(), *self._refused])

    def close(self) -> None:
        """Stop following."""
        self._watch.close()

    def poll(self) -> list[Event]:
        """What changed since the last call."""
        self._watch.drain()
        try:
            changed = self._folder.refresh()
        except OSError as error:
            self._missing = [Problem(str(self._path), "", "", "Unreadable", error.strerror or str(error))]
            return []
        self._missing = []
        if not changed and self._read:
            return []
        placed = [(name, item) for name, document in self._folder.documents() for item in flatten(document)]
        events = list(of_node(self._node, self._take(placed)))
        if not self._read:
            events.append(Synced(None))
        self._read = True
        return events

    def _take(self, placed: list[Placed]) -> list[Event]:
        events = self._manifests.replace(item for _, item in placed)
        refusals = self._manifests.refusals()
        self._refused = [_problem(refusal, placed) for refusal in refusals]
        bad = {refusal.ref for refusal in refusals if refusal.reason is not Refusal.DUPLICATE}
        former = {ref: raw for ref, raw in self._good.items() if ref in bad}
        refs = {reference(item): item for _, item in reversed(placed)}
        self._good = {
            ref: former.get(ref, raw) for ref, raw in refs.items() if ref not in bad or ref in former
        }
        if former:
            events += self._manifests.replace(former.get(reference(item), item) for _, item in placed)
        return events


def _problem(refusal: RefusedError, placed: list[Placed]) -> Problem:
    """The refusal with its file: the last that has such an object; of two with one name the first counts."""
    ref = refusal.ref
    files = [name for number, (name, item) in enumerate(placed) if _is(ref, item, number)]
    subject = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
    message = f"{refusal.path}: {refusal.message}" if refusal.path else refusal.message
    return Problem(files[-1] if files else "", ref.kind, subject, refusal.reason.value, message)


def _is(ref: ObjectRef, item: Any, number: int) -> bool:
    """Whether an object is the one that a refusal names; one without a name goes by its number."""
    found = reference(item)
    return found == ref or (found.name == "?" and ref.name == f"? (object {number + 1})")
