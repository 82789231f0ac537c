"""Makes helpers of this folder importable (`syncworld`), and the world of the sync tests."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

HERE = str(Path(__file__).resolve().parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

from syncworld import Bench  # noqa: E402


@pytest.fixture
async def bench(autojump_clock: trio.testing.MockClock) -> AsyncIterator[Bench]:
    made = Bench()
    async with trio.open_nursery() as nursery:
        await nursery.start(made.registry.run)
        nursery.start_soon(made.peers.run)
        yield made
        nursery.cancel_scope.cancel()
