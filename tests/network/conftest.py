"""The network of a module and its handles for each test; `network` is made by the module itself."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import dockerengine
import pytest
from network import Connected, Network
from network.engineroom import why_not


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
