"""Makes the test kit importable, gives a MongoDB to every test that asks for it (mongoserver.py), marks the
tests that take turns on a Docker engine (docs/testing-containers.md), and takes chance and speed out of
those that draw their examples."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

KIT = Path(__file__).resolve().parent / "kit"
NETWORKS = KIT.with_name("network")
if str(KIT) not in sys.path:
    sys.path.insert(0, str(KIT))

import mongoserver  # noqa: E402 - the line above makes it importable
from examples import NIGHTLY, draw_nothing_from_imports  # noqa: E402

# How long an example takes is a matter of the machine. The same examples are drawn each time, so that a run
# says something about the change it tests; the nightly form (TRIONODE_NIGHTLY=1) draws new ones.
hypothesis.settings.register_profile(
    "trionode",
    deadline=None,
    derandomize=not NIGHTLY,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("trionode")
if not NIGHTLY:
    draw_nothing_from_imports()


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


LONG_S = 600
"""A test that may take longer than that begins before the others: at the end one worker would wait for it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m engine` chooses what waits for its turn on the engine, `-m "not engine"` the rest."""
    for item in items:
        if "engine_turn" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.engine)
    items.sort(key=lambda item: not _is_long(item))


def _is_long(item: pytest.Item) -> bool:
    # One network serves all tests of a file there, in their order.
    if NETWORKS in item.path.parents:
        return False
    mark = item.get_closest_marker("timeout")
    return mark is not None and mark.args[0] > LONG_S
