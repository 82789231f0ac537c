"""The network of a module and its handles for each test; `network` is made by the module itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from network import Connected, Network


@pytest.fixture
async def net(network: Network) -> AsyncIterator[Connected]:
    """The module's network, calm: everybody attached, confirmed, listed, with a daemon that answers."""
    async with network.connected() as connected:
        await connected.calm()
        yield connected
