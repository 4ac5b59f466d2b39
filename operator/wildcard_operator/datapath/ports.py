# SPDX-License-Identifier: Apache-2.0
"""Which interface leads to which pod. Pure.

A routed pod has a host route over its interface, which only the node can set. A pod on a bridge is known by
the addresses at the far end of its port. A pod with CAP_NET_ADMIN can add addresses there, so what an
interface was found to be first stays while it can be true, and an address that another port alone has is
that port's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wildcard_operator.datapath.host import HostState
    from wildcard_operator.model.entries import LocalPod
    from wildcard_operator.model.net import Address


def pod_ports(pods: Mapping[int, LocalPod], host: HostState, former: Mapping[int, int]) -> dict[int, int]:
    """Interface index -> pod's number, for every interface that is found to be a pod's.

    `former` is the last answer. An interface that leads to several pods is none of theirs, and left out.
    """
    owners = {address: number for number, pod in pods.items() for address in pod.addresses}
    found = _routed(owners, host)
    for port, number in _bridged(owners, host, former).items():
        found.setdefault(port, number)
    return found


def _routed(owners: Mapping[Address, int], host: HostState) -> dict[int, int]:
    leads_to: defaultdict[int, set[int]] = defaultdict(set)
    for address, index in host.routes.items():
        if address in owners:
            leads_to[index].add(owners[address])
    return {index: numbers.pop() for index, numbers in leads_to.items() if len(numbers) == 1}


def _bridged(owners: Mapping[Address, int], host: HostState, former: Mapping[int, int]) -> dict[int, int]:
    claims = {
        port: {owners[address] for address in addresses if address in owners}
        for port, addresses in host.behind.items()
    }
    found = {port: former[port] for port, numbers in claims.items() if former.get(port) in numbers}
    undisputed = Counter(next(iter(numbers)) for numbers in claims.values() if len(numbers) == 1)
    taken = set(found.values()) | set(undisputed)
    for port, numbers in claims.items():
        candidates = numbers if len(numbers) == 1 else numbers - taken
        if port not in found and len(candidates) == 1:
            found[port] = next(iter(candidates))
    return found
