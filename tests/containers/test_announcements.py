"""What the network hears of installs, and what the own log keeps of it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trionode.config.tree import AppStateSettings
from trionode.containers.spawning.announcements import Announcements
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.store.eventlog import EventLog
from trionode.store.memory import MemoryStore
from trionode.wire.envelope import Envelope, seal
from trionode.wire.keys import NodeKey

ME, HASH = "198.18.1.0", "ab" * 32


class Rig:
    def __init__(self) -> None:
        self.clock, self.counters, settings = VirtualClock(), Counters(), AppStateSettings()
        self.log = EventLog(settings, MemoryStore(), self.clock, EventBus(), self.counters)
        self.key = NodeKey.generate(random.Random(7))
        self.own_address: str | None = ME
        self.can_send = True
        self.sent: list[Envelope] = []
        self.tell = Announcements(settings, self, self, self.log, self.counters, self.clock)

    def broadcast_own(self, data: dict[str, Any]) -> Envelope:
        self.sent.append(seal(data, self.key, self.clock.now_ms()))
        return self.sent[-1]


@pytest.mark.trio
async def test_an_install_and_its_failure(autojump_clock: MockClock) -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.log.run)
        assert await rig.tell.installing("shop")
        (row,) = rig.log.installing("shop")
        assert (row.ip, row.broadcasted_at_ms) == (ME, rig.clock.now_ms())
        data: Any = rig.sent[0].data
        assert data == {
            "type": "fluxappinstalling",
            "version": 1,
            "name": "shop",
            "ip": ME,
            "broadcastedAt": rig.clock.now_ms(),
        }
        assert await rig.tell.install_error("shop", HASH, "no “image”\n")
        assert rig.log.installing("shop") == []
        (error,) = rig.log.install_errors("shop")
        assert error.hash == HASH
        assert json.loads(error.error) == {"name": "Error", "message": "no “image”\n"}
        # a peer takes both, too
        other = Rig()
        await nursery.start(other.log.run)
        assert [(await other.log.ingest(envelope)).accepted for envelope in rig.sent] == [True, True]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_long_error_is_cut_and_two_messages_never_share_a_moment(autojump_clock: MockClock) -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.log.run)
        await rig.tell.install_error("shop", HASH, "x" * 50_000)
        await rig.tell.install_error("shop", HASH, "again")
        assert len(rig.sent[0].data_text) < 3_000
        stamps = [json.loads(envelope.data_text)["broadcastedAt"] for envelope in rig.sent]
        assert stamps[1] == stamps[0] + 1
        (error,) = rig.log.install_errors("shop")
        assert "again" in error.error
        nursery.cancel_scope.cancel()


@pytest.mark.trio
@pytest.mark.parametrize(("address", "can_send"), [(None, True), (ME, False)])
async def test_who_may_not_speak_says_nothing(address: str | None, can_send: bool) -> None:
    rig = Rig()
    rig.own_address, rig.can_send = address, can_send
    assert not await rig.tell.installing("shop")
    assert not await rig.tell.install_error("shop", HASH, "x")
    assert rig.sent == []
