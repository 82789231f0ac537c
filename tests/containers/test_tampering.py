"""Signs of tampering outlive the process, in a list that does not grow without end (§9)."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trionode.containers.health.tampering import KEPT, TamperingLog
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.store.localapps import MemoryLocalApps


@pytest.mark.trio
async def test_events_are_kept_bounded_and_forgotten_after_thirty_days(autojump_clock: MockClock) -> None:
    store = MemoryLocalApps()

    async def life(*kinds: str, wait_s: float = 1) -> TamperingLog:
        log = TamperingLog(store, EventBus(), Counters(), VirtualClock())
        async with trio.open_nursery() as nursery:
            log.note("early", "mount_vanished", "before it was read")
            await nursery.start(log.run)
            for kind in kinds:
                log.note("shop", kind, "seen")
            await trio.sleep(wait_s)
            nursery.cancel_scope.cancel()
        return log

    await life("container_vanished")
    again = await life("network_pruned")
    assert [event.kind for event in again.events("shop")] == ["network_pruned", "container_vanished"]
    assert len(again.events("early")) == 2
    many = await life(*["container_vanished"] * (2 * KEPT))
    assert len(many.events()) == KEPT
    await trio.sleep(31 * 86_400)
    assert (await life()).events("shop") == ()


@pytest.mark.trio
async def test_a_store_that_fails_is_tried_again(autojump_clock: MockClock) -> None:
    store = MemoryLocalApps()
    log = TamperingLog(store, EventBus(), Counters(), VirtualClock())
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        store.failing.add("put_meta")
        log.note("shop", "container_vanished", "seen")
        await trio.sleep(30)
        store.failing.clear()
        await trio.sleep(61)
        nursery.cancel_scope.cancel()
    kept = await store.get_meta("tamperingEvents")
    assert kept is not None
    assert "container_vanished" in kept
