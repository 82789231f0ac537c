"""What only a real MongoDB can show: its own clock for expiry, and a primary that really steps down.

SecantusDB answers `replSetStepDown` and stays primary: these wait for TRIONODE_TEST_MONGO (docs/storage.md).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import mongoserver
import pytest
import trio
from mongoserver import Databases
from nodedata import running

from trionode.appstate.changes import PutEvent
from trionode.appstate.documents import EventRow
from trionode.appstate.facts import fact_of
from trionode.config.tree import StoreSettings
from trionode.store.open import open_stores

pytestmark = [
    pytest.mark.trio,
    pytest.mark.process,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        mongoserver.REAL_SERVER not in os.environ,
        reason=f"needs a real MongoDB: test-infra/mongodb/run, or {mongoserver.REAL_SERVER}",
    ),
]


async def test_a_real_step_down_costs_only_time(mongo: Databases) -> None:
    settings = StoreSettings(url=mongo.url, mongo_prefix=mongo.prefix)
    async with open_stores(settings, Path()) as stores:

        def step_down() -> None:
            with mongo.server.client() as client:
                client.admin.command({"replSetStepDown": 5, "force": True})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, step_down)
            for number in range(200):
                row = running(number)
                await stores.events.commit([PutEvent(row, fact_of(row))])
        found = [row async for row in stores.events.load() if isinstance(row, EventRow)]
        assert len(found) == 200


async def test_the_server_deletes_what_is_over(mongo: Databases) -> None:
    settings = StoreSettings(url=mongo.url, mongo_prefix=mongo.prefix)
    async with open_stores(settings, Path()) as stores:
        # Three days ago by any clock.
        at_ms = int(time.time() * 1000) - 3 * 86_400_000
        over = running(1, at_ms=at_ms)
        row = EventRow(
            over.ip, over.type, over.dedup_key, at_ms, at_ms, None, at_ms, over.data_text, over.signed
        )
        await stores.events.commit([PutEvent(row, fact_of(row))])
        with trio.fail_after(130):
            while (await stores.events.counts())["events"]:  # noqa: ASYNC110 - the server gives no sign
                await trio.sleep(1)
