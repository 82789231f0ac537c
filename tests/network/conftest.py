"""The network of a module and its handles for each test; `network` is made by the module itself.

The tests of a module that says `IN_ORDER = True` go on where the last one ended: after a failure the others
fail at once, with the name of the one to look at.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator

import dockerengine
import pytest
from network import Connected, Network
from network.engineroom import why_not

FAILED_FIRST = pytest.StashKey[str]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    module = item.getparent(pytest.Module)
    if report.failed and module is not None and getattr(module.obj, "IN_ORDER", False):
        module.stash.setdefault(FAILED_FIRST, item.name)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    module = item.getparent(pytest.Module)
    first = None if module is None else module.stash.get(FAILED_FIRST, None)
    if first is not None:
        pytest.fail(f"{first} failed before, and this test goes on where it should have ended", pytrace=False)


@pytest.fixture(scope="session")
def engine_room() -> None:
    """Skips (in CI: fails) with the reason where no node with a container engine can be had."""
    reason = why_not()
    if reason is not None and os.environ.get(dockerengine.NEEDED):
        pytest.fail(f"a container engine is needed here: {reason}")
    if reason is not None:
        pytest.skip(f"no node with a container engine: {reason}")


@pytest.fixture
async def net(network: Network) -> AsyncIterator[Connected]:
    """The module's network, calm: everybody attached, confirmed, listed, with a daemon that answers."""
    async with network.connected() as connected:
        await connected.calm()
        yield connected
