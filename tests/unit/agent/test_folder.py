# SPDX-License-Identifier: Apache-2.0
"""A folder of manifests: what is read, what is broken, what stays in force."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from wildcard_operator.agent.folder import Folder, FolderWatch
from wildcard_operator.agent.manifests import ManifestSource
from wildcard_operator.compiler.events import PodSet, RuleSetRemoved, RuleSetSet, Synced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pod(name: str, node: str = "n", **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"namespace": "x", "name": name},
        "spec": {"nodeName": node, **spec},
        "status": {"podIPs": [{"ip": f"10.0.0.{len(name)}"}]},
    }


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "NetworkPolicy",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {"namespace": "x", "name": name},
        "spec": {"podSelector": {}, **spec},
    }


def write(path: Path, *objects: Any) -> None:
    """In one step, so that every write is another file."""
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump_all(objects))
    new.rename(path)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[ManifestSource]:
    made = ManifestSource(tmp_path, "n")
    yield made
    made.close()


def names(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_an_empty_folder_is_in_sync_after_the_first_look(source: ManifestSource) -> None:
    assert not source.synced()
    assert source.poll() == [Synced(None)]
    assert source.synced()
    assert source.poll() == []


def test_documents_lists_and_json_are_read_and_other_files_are_not(
    tmp_path: Path, source: ManifestSource
) -> None:
    write(tmp_path / "a.yaml", pod("a"), None, {"kind": "List", "items": [pod("bb"), policy("p")]})
    (tmp_path / "b.json").write_text('{"kind": "Deployment", "metadata": {"name": "d"}}')
    (tmp_path / "notes.txt").write_text("kind: nothing")

    events = source.poll()

    assert sorted(e.pod.name for e in events if isinstance(e, PodSet)) == ["a", "bb"]
    assert len([e for e in events if isinstance(e, RuleSetSet)]) == 1
    assert source.problems() == []


def test_only_what_changed_is_told_again(tmp_path: Path, source: ManifestSource) -> None:
    write(tmp_path / "a.yaml", pod("a"), policy("p"))
    write(tmp_path / "b.yaml", policy("q"))
    source.poll()
    write(tmp_path / "b.yaml", policy("q", ingress=[{}]))

    assert names(source.poll()) == ["RuleSetSet"]

    (tmp_path / "b.yaml").unlink()
    assert [type(event) for event in source.poll()] == [RuleSetRemoved]


BROKEN = {
    "no YAML": ("{", "line 2, column 1"),
    "a tab": ("kind: Pod\n\tmetadata: {}", "line 2, column 1"),
    "no UTF-8": (b"\xff\xfe\x00kind", ""),
    "an anchor that is not there": ("kind: *nothing", "line 1, column 7"),
    "a tag of Python": ("!!python/object/apply:os.system [true]", "line 1, column 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_read_leaves_what_it_said_in_force(
    tmp_path: Path, source: ManifestSource, name: str
) -> None:
    text, place = BROKEN[name]
    write(tmp_path / "broken.yaml", policy("p"))
    write(tmp_path / "good.yaml", policy("q"))
    source.poll()
    (tmp_path / "broken.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    write(tmp_path / "good.yaml", policy("q", ingress=[{}]))

    assert names(source.poll()) == ["RuleSetSet"]
    (problem,) = source.problems()
    assert problem.place == "broken.yaml"
    assert place in problem.message

    write(tmp_path / "broken.yaml", policy("p"))
    assert source.poll() == []
    assert source.problems() == []


def test_a_refused_object_stays_as_it_was_and_the_rest_of_its_file_goes_on(
    tmp_path: Path, source: ManifestSource
) -> None:
    write(tmp_path / "a.yaml", policy("p", ingress=[]), policy("q"))
    source.poll()
    wrong = [{"ports": [{"port": 80, "endPort": 79}]}]
    write(tmp_path / "a.yaml", policy("p", ingress=wrong), policy("q", ingress=[{}]))

    told = {e.ruleset.source.name: e.ruleset for e in source.poll() if isinstance(e, RuleSetSet)}
    (problem,) = source.problems()
    assert told["q"].rules
    assert told["p"].rules == ()
    assert told["p"].problems == ()
    assert (problem.place, problem.kind, problem.name) == ("a.yaml", "NetworkPolicy", "x/p")
    assert problem.message.startswith("spec.ingress[0].ports[0].endPort: ")


@pytest.mark.parametrize("has_selector", [True, False])
def test_a_refused_policy_that_never_was_good_isolates(
    tmp_path: Path, source: ManifestSource, has_selector: bool
) -> None:
    """Without a podSelector too: that selects all pods of the namespace."""
    refused = policy("p", ingress=[{"from": [{}]}])
    if not has_selector:
        del refused["spec"]["podSelector"]
    write(tmp_path / "a.yaml", refused)

    (told,) = [e.ruleset for e in source.poll() if isinstance(e, RuleSetSet)]
    assert told.isolates
    assert told.rules == ()


def test_of_two_objects_of_one_name_the_first_counts(tmp_path: Path, source: ManifestSource) -> None:
    write(tmp_path / "a.yaml", policy("p", ingress=[{}]))
    write(tmp_path / "b.yaml", policy("p"))

    (told,) = [e.ruleset for e in source.poll() if isinstance(e, RuleSetSet)]
    (problem,) = source.problems()
    assert told.rules
    assert (problem.place, problem.reason) == ("b.yaml", "Duplicate")


def test_a_link_that_is_swapped_is_a_new_file(tmp_path: Path) -> None:
    """Kubernetes mounts ConfigMaps so."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.yaml", policy(name))
    folder = tmp_path / "mounted"
    folder.mkdir()
    (folder / "..data").symlink_to(tmp_path / "one")
    (folder / "a.yaml").symlink_to("..data/a.yaml")
    found = Folder(folder)
    assert found.refresh()
    (folder / "..new").symlink_to(tmp_path / "two")
    (folder / "..new").rename(folder / "..data")

    assert found.refresh()
    assert [document["metadata"]["name"] for _, document in found.documents()] == ["two"]


def test_the_watch_wakes_up_for_every_kind_of_change(tmp_path: Path) -> None:
    watch = FolderWatch(tmp_path)
    try:
        for change in (
            lambda: (tmp_path / "a.yaml").write_text("a"),
            lambda: (tmp_path / "a.yaml").rename(tmp_path / "b.yaml"),
            (tmp_path / "b.yaml").unlink,
        ):
            assert select.select([watch], [], [], 0)[0] == []
            change()
            assert select.select([watch], [], [], 1)[0] == [watch]
            watch.drain()
    finally:
        watch.close()


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot watch"):
        FolderWatch(tmp_path / "missing")


def test_a_folder_that_goes_away_leaves_everything_in_force(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "a.yaml", policy("p"))
    source = ManifestSource(folder, "n")
    source.poll()
    folder.rename(tmp_path / "elsewhere")

    assert source.poll() == []
    assert [problem.place for problem in source.problems()] == [str(folder)]
    (tmp_path / "elsewhere").rename(folder)
    assert source.poll() == []
    assert source.problems() == []
    source.close()
