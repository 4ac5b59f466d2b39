# SPDX-License-Identifier: Apache-2.0
"""Stages of either manner of attaching pods, shared by the tests of a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.stage import Stage, built_stage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def routed() -> Iterator[Stage]:
    """Pods with a veth and a host route each."""
    with built_stage("ptp") as built:
        yield built


@pytest.fixture(scope="module")
def bridged() -> Iterator[Stage]:
    """Pods on one bridge."""
    with built_stage("bridge") as built:
        yield built


@pytest.fixture(scope="module", params=["routed", "bridged"])
def either(request: pytest.FixtureRequest) -> Stage:
    """Both in turn."""
    found: Stage = request.getfixturevalue(request.param)
    return found
