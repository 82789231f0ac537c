"""A server without transactions for tests of this folder, and a door to it that can be spoiled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faultproxy import FaultProxy, fault_proxy
from mongoserver import Databases, TestServer, databases


@pytest.fixture
def lone(mongo_standalone: TestServer) -> Iterator[Databases]:
    with databases(mongo_standalone) as made:
        yield made


@pytest.fixture
def lone_door(lone: Databases) -> Iterator[FaultProxy]:
    with fault_proxy(lone.server.host, lone.server.port) as made:
        yield made
