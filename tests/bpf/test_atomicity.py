# SPDX-License-Identifier: Apache-2.0
"""Readers see the old set or the new one, never a mixture: while a writer commits, and when it is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import alternating
from support.alternating import KEY, LINK, RULES, Watcher, commit, rule_sets
from support.bpfbuild import compile_bpf
from wildcard_operator.wildcardmap import WildcardGroup, WildcardMap

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).parent / "programs" / "atomicity.bpf.c"
SECONDS = 5
KILLS = 200
CAPACITY = RULES + 2
COMMITTED = "committed\n"

one_map_or_two = pytest.mark.parametrize(
    "names", [["first"], ["first", "second"]], ids=["one map", "a group of two"]
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_bpf(PROGRAM, tmp_path_factory.mktemp("programs"))


@pytest.fixture
def writers(bpffs: Path, names: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that forks a writer for each line that it is sent."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, alternating.__file__, str(bpffs / "group"), *names]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=30)


def created(
    stack: ExitStack, names: list[str], pin: Path | None = None
) -> tuple[WildcardGroup, list[WildcardMap]]:
    """A group of maps that hold set 1."""
    group = WildcardGroup.create(pin)
    stack.callback(group.close)
    maps = [
        stack.enter_context(
            WildcardMap.create(KEY, max_entries=CAPACITY, value_size=LINK.size, group=group, name=name)
        )
        for name in names
    ]
    commit(group, maps, rule_sets(1, one_map=len(names) == 1))
    return group, maps


@one_map_or_two
def test_a_program_never_sees_a_mixture_of_two_sets(program: Path, names: list[str]) -> None:
    sets = [rule_sets(mark, one_map=len(names) == 1) for mark in (2, 1)]
    with ExitStack() as stack:
        group, maps = created(stack, names)
        with Watcher(program, group, maps) as watcher:
            deadline = time.monotonic() + SECONDS
            commits = 0
            while time.monotonic() < deadline:
                commit(group, maps, sets[commits % 2])
                commits += 1
            first, second, mixed = watcher.counted()

    assert mixed == 0
    assert min(first, second) > 100_000
    assert commits > 10


@pytest.mark.timeout(900)
@one_map_or_two
def test_a_writer_killed_at_any_instant_leaves_a_whole_set(
    program: Path, names: list[str], bpffs: Path, writers: subprocess.Popen[str]
) -> None:
    rng = random.Random(1)
    pin = bpffs / "group"
    with ExitStack() as stack:
        created(stack, names, pin)
    with ExitStack() as stack:
        group = WildcardGroup.open(pin, write=False)
        stack.callback(group.close)
        maps = [stack.enter_context(WildcardMap.open(pin / name, group=group)) for name in names]
        watcher = stack.enter_context(Watcher(program, group, maps))
        a_commit = 0.0
        for number in range(KILLS):
            writer = _start(writers)
            if number % 4 == 0:  # the others die in their first commit
                a_commit = _seconds_until_committed(writers)
            # A writer commits all the time, so whatever moment it dies at is amid a commit.
            time.sleep(rng.random() * a_commit)  # waits for nothing: the moment is random
            os.kill(writer, signal.SIGKILL)
        first, second, mixed = watcher.counted()

    assert mixed == 0
    assert min(first, second) > 100_000


def _start(writers: subprocess.Popen[str]) -> int:
    assert writers.stdin is not None
    assert writers.stdout is not None
    writers.stdin.write("\n")
    writers.stdin.flush()
    line = writers.stdout.readline()
    while line == COMMITTED:  # the last word of the one before
        line = writers.stdout.readline()
    return int(line)


def _seconds_until_committed(writers: subprocess.Popen[str]) -> float:
    assert writers.stdout is not None
    started = time.monotonic()
    assert writers.stdout.readline() == COMMITTED
    return time.monotonic() - started


def test_a_writer_that_opens_one_map_of_a_group_flips_the_others_to_whole_images(bpffs: Path) -> None:
    pin, names = bpffs / "group", ["first", "second"]
    with ExitStack() as stack:
        created(stack, names, pin)
    child = os.fork()
    if child == 0:
        _die_before_the_flip(pin, names)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

    with closing(WildcardGroup.open(pin)) as group, WildcardMap.open(pin / "first", group=group) as first:
        first.update((7, 7), LINK.pack(3, 3), priority=7)

    with (
        closing(WildcardGroup.open(pin, write=False)) as group,
        WildcardMap.open(pin / "second", group=group) as second,
    ):
        assert {LINK.unpack(entry.value)[0] for entry in second} == {0, 1}
        assert len(second) == RULES + 1


class _Death:
    """A member of a commit, the last, that ends the process when the images of the others are written."""

    def write_passive(self, image: int) -> None:
        os._exit(9)

    def write_other(self, image: int) -> None:
        raise AssertionError

    def repair(self, image: int) -> None:
        raise AssertionError


def _die_before_the_flip(pin: Path, names: list[str]) -> None:
    group = WildcardGroup.open(pin)
    batches = [WildcardMap.open(pin / name, group=group).begin() for name in names]
    for batch, arrays in zip(batches, rule_sets(2, one_map=False), strict=True):
        batch.replace(arrays)
    staged = [batch.stage() for batch in batches]
    group.commit([member for member in staged if member is not None] + [_Death()])
