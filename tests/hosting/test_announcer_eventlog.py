"""The announcer with a real key and the real event log: what it says is what the node then serves."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trionode.config.tree import AppStateSettings
from trionode.hosting.announcer import Announcer
from trionode.hosting.port import FixedApps, RunningApp
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.store.eventlog import EventLog
from trionode.store.memory import MemoryStore
from trionode.wire.envelope import Envelope, seal
from trionode.wire.keys import NodeKey
from trionode.wire.signing import verify_message

ME = "198.18.1.0"
WEB, DB = RunningApp("web", "aa" * 32), RunningApp("db", "bb" * 32)


class Sender:
    """Signs as a node does, and remembers the texts that would have gone out."""

    own_address = ME
    can_send = True

    def __init__(self, clock: VirtualClock) -> None:
        self.key = NodeKey.generate(random.Random(7))
        self.clock = clock
        self.sent: list[Envelope] = []

    def broadcast_own(self, data: dict[str, Any]) -> Envelope:
        envelope = seal(data, self.key, self.clock.now_ms())
        self.sent.append(envelope)
        return envelope


@pytest.mark.trio
async def test_own_locations_follow_the_announcements(autojump_clock: MockClock) -> None:
    clock, bus, counters, settings = VirtualClock(), EventBus(), Counters(), AppStateSettings()
    log = EventLog(settings, MemoryStore(), clock, bus, counters)
    sender, apps = Sender(clock), FixedApps(bus, (WEB, DB))
    announcer = Announcer(
        settings,
        apps,
        sender,
        sender,
        log,
        bus,
        counters,
        clock,
        start=Gate(is_open=True),
        boot_settled=Gate(is_open=True),
        uptime_s=lambda: 5.0,
        known_names=lambda address: [row.name for row in log.locations(ip=address)],
    )

    def listed() -> list[str]:
        return sorted(row.name for row in log.locations(ip=ME))

    async with trio.open_nursery() as nursery:
        await nursery.start(log.run)
        await nursery.start(announcer.run)
        await trio.sleep(5)
        assert listed() == ["db", "web"]
        apps.replace((DB,))
        await trio.sleep(5)
        assert listed() == ["db"]
        await trio.sleep(30_000)
        assert listed() == ["db"], "hourly news keep the row from expiring"
        apps.replace(())
        await trio.sleep(5)
        assert listed() == []
        nursery.cancel_scope.cancel()
    assert not counters.snapshot("announcer.not_applied")
    assert not counters.snapshot("announcer.failed")
    for envelope in sender.sent:
        assert verify_message(envelope.signed_text, envelope.pub_key, envelope.signature)
