# SPDX-License-Identifier: Apache-2.0
"""The operator's kopf handlers: they start and stop it, answer the probe, and pass WildcardFilters on.

kopf watches WildcardFilters alone, with `on.event`: every other kind of handler writes annotations or
finalizers. What feeds the policies comes from reflectors, which see every deletion.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any

import kopf

from wildcard_operator.kube.api import WILDCARD_FILTERS
from wildcard_operator.kube.client import load_configuration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wildcard_operator.controller.replica import Replica

EVENTS_NAMESPACE = "default"


class Patiently:
    """Pauses between tries that never end: without an API server the operator waits, it doesn't crash."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((0.1, 0.5, 1.0, 2.0), itertools.repeat(5.0))


def make_registry(replica: Replica) -> kopf.OperatorRegistry:
    """The handlers of one replica."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection_info(replica)

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)
        await replica.start()

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        await replica.stop()

    @kopf.on.probe(registry=registry, id="operator")
    async def probe(**_: Any) -> dict[str, Any]:
        return replica.health()

    @kopf.on.event(
        WILDCARD_FILTERS.group, WILDCARD_FILTERS.version, WILDCARD_FILTERS.plural, registry=registry
    )
    async def filter_changed(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002 - kopf's name
        for notice in replica.board.see(body, gone=type == "DELETED", first=type is None):
            kopf.event(body, type=notice.type, reason=notice.reason, message=notice.message)

    return registry


def configure(settings: kopf.OperatorSettings) -> None:
    """Nothing but what the handlers ask for: no scan of the cluster, no Event for a line of the log."""
    settings.scanning.disabled = True
    settings.posting.level = logging.CRITICAL
    settings.posting.reporting_component = "wildcard-operator"
    settings.networking.error_backoffs = Patiently()
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10


async def connection_info(replica: Replica) -> kopf.ConnectionInfo:
    """The credentials of the Kubernetes client, for kopf; asked for again when the server refuses them."""
    configuration = await load_configuration(replica.settings.kubeconfig)
    token = await configuration.get_api_key_with_prefix("BearerToken")
    scheme, _, secret = (token or "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        scheme=scheme or None,
        token=secret or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        default_namespace=EVENTS_NAMESPACE,
    )
