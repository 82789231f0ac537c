"""Makes the test kit importable, gives a MongoDB to every test that asks for it (mongoserver.py), and marks
the tests that take turns on a Docker engine (docs/testing-containers.md)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

KIT = Path(__file__).resolve().parent / "kit"
if str(KIT) not in sys.path:
    sys.path.insert(0, str(KIT))

import mongoserver  # noqa: E402 - the line above makes it importable


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[mongoserver.TestServer]:
    """One server for all tests of this worker."""
    with mongoserver.server_for_tests() as server:
        yield server


@pytest.fixture
def mongo(mongo_server: mongoserver.TestServer) -> Iterator[mongoserver.Databases]:
    """Databases of this test alone: `mongo.url` and `mongo.prefix`."""
    with mongoserver.databases(mongo_server) as made:
        yield made


@pytest.fixture(scope="session")
def mongo_standalone() -> Iterator[mongoserver.TestServer]:
    """A server without transactions, as one that is no replica set."""
    with mongoserver.running_server("--standalone") as (server, _):
        yield server


@pytest.fixture(params=["set", "standalone"])
def any_mongo_server(request: pytest.FixtureRequest) -> mongoserver.TestServer:
    """Each kind of server: with transactions and without."""
    name = "mongo_server" if request.param == "set" else "mongo_standalone"
    server: mongoserver.TestServer = request.getfixturevalue(name)
    return server


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m engine` chooses what waits for its turn on the engine, `-m "not engine"` the rest."""
    for item in items:
        if "engine_turn" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.engine)
