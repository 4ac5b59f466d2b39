# SPDX-License-Identifier: Apache-2.0
"""Connections that live while policies change: cut at once where they are forbidden, never disturbed where
not.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from support.agents import total
from support.objects import policy, wildcard_filter
from support.reach import connects
from support.stage import Stage, built_stage
from support.streams import Stream
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def stream(stage: Stage, client: str, server: str, family: int = 4, port: int = 5001) -> Iterator[Stream]:
    pods = stage.pods
    made = Stream(pods[client].netns, pods[server].netns, pods[server].address(family), port)
    try:
        yield made
    finally:
        made.close()


def drops(stage: Stage) -> float:
    """Packets that any rule dropped."""
    return total(stage.agent.samples(), "wildcard_rule_packets_total", action="Drop")


FORBIDS = {
    "the client's egress": lambda: policy("cut", "a", policyTypes=["Egress"], egress=[]),
    "the server's ingress": lambda: policy("cut", "b", ingress=[]),
    "a filter at the server": lambda: wildcard_filter(
        "cut", "Ingress", {"pods": {}}, {"name": "all", "action": "Drop", "protocol": "TCP"}
    ),
}


def cut(stage: Stage, forbids: str) -> None:
    """Forbid what is going on, and return once that shows: what was under way before has arrived by then."""
    before = drops(stage)
    stage.apply(FORBIDS[forbids]())
    wait_until(lambda: drops(stage) > before, 10, "a packet is dropped")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("forbids", FORBIDS)
def test_a_download_that_a_policy_newly_forbids_stops(either: Stage, forbids: str, family: int) -> None:
    either.apply()
    with stream(either, "a", "b", family) as download:
        assert download.flows()
        cut(either, forbids)

        assert download.stands_still()
        either.apply()
        assert download.flows(20), "the sender tries again ever more rarely"


@pytest.mark.parametrize("family", [4, 6])
def test_a_change_that_does_not_touch_a_connection_costs_it_no_segment(either: Stage, family: int) -> None:
    allow = policy("allow", "b", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}])
    either.apply(allow)
    for name in "ab":
        # Tail loss probes send again what was never lost, when the machine is busy.
        either.pods[name].netns.sysctl("ipv4/tcp_early_retrans", 0)
    with stream(either, "a", "b", family) as download:
        assert download.flows()
        before = download.retransmissions(), drops(either)
        for number in range(20):
            either.apply(allow, policy(f"other-{number}", "c", ingress=[]), policy("more", "b", ingress=[{}]))
            either.apply(allow)

        assert download.flows()
        assert (download.retransmissions(), drops(either)) == before


def _push_datagrams(stage: Stage) -> tuple[socket.socket, Callable[[], int], Callable[[], None]]:
    """A UDP server that answers one question forever; what arrived so far, and how to stop."""
    pods = stage.pods
    ends = []
    for name, port in (("a", 6001), ("b", 6002)):
        with pods[name].netns.entered():
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((pods[name].address(4), port))
        ends.append(made)
    client, server = ends
    client.sendto(b"?", (pods["b"].address(4), 6002))
    server.settimeout(1)
    server.recvfrom(10)
    stop = threading.Event()

    def push() -> None:
        while not stop.is_set():
            server.sendto(b"!", (pods["a"].address(4), 6001))
            time.sleep(0.002)

    thread = threading.Thread(target=push)
    thread.start()
    client.setblocking(False)
    arrived = 0

    def count() -> int:
        nonlocal arrived
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            while selector.select(0):
                client.recv(10)
                arrived += 1
        return arrived

    def end() -> None:
        stop.set()
        thread.join()
        client.close()
        server.close()

    return client, count, end


@pytest.mark.parametrize("forbids", [name for name in FORBIDS if "filter" not in name])
def test_a_server_that_pushes_datagrams_is_cut_off(either: Stage, forbids: str) -> None:
    either.apply()
    _, count, end = _push_datagrams(either)
    try:
        wait_until(lambda: count() > 5, 10, "datagrams arrive")
        cut(either, forbids)
        arrived, dropped = count(), drops(either)
        wait_until(lambda: drops(either) > dropped + 50, 10, "the server pushes on")

        assert count() == arrived
    finally:
        end()


def test_errors_about_an_allowed_connection_pass_both_ways(either: Stage) -> None:
    """A closed port of an isolated client's peer is refused by ICMP, and the client hears of it."""
    either.apply(
        policy("deny", "a", policyTypes=["Ingress", "Egress"], egress=[{}]),
        policy("deny-b", "b", ingress=[{}]),
    )
    with either.pods["a"].netns.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(1)
        client.connect((either.pods["b"].address(4), 9))
        client.send(b"x")

        with pytest.raises(ConnectionRefusedError):
            client.recv(10)
    assert total(either.agent.samples(), "wildcard_event_packets_total", event="related") > 0


@pytest.mark.parametrize("family", [4, 6])
def test_replies_pass_to_and_from_isolated_pods(either: Stage, family: int) -> None:
    """The server may send nothing of its own accord, and the client may receive nothing."""
    either.apply(
        policy("client", "a", policyTypes=["Ingress", "Egress"], egress=[{"ports": [{"port": 5001}]}]),
        policy("server", "b", policyTypes=["Ingress", "Egress"], ingress=[{"ports": [{"port": 5001}]}]),
    )
    with stream(either, "a", "b", family) as download:
        assert download.flows()


def test_connections_may_be_left_alone_by_a_setting() -> None:
    """`--established pass`: what was allowed when it began goes on, and nothing new begins."""
    with built_stage("ptp", established="pass") as built, stream(built, "a", "b") as download:
        built.apply(policy("cut", "b", ingress=[]))
        time.sleep(0.02)  # what was under way: nothing tells it from what comes later

        assert download.flows()
        assert not connects(built.pods["a"].netns, built.pods["b"].netns, built.pods["b"].address(4), 5002)
