"""A node whose public address changes: what it does with its apps, and whom it tells."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trionode.appstate.changes import Change
from trionode.config.tree import AppStateSettings, MonitorSettings
from trionode.errors import ChainError, StoreError
from trionode.hosting.addresswatch import AddressWatch
from trionode.hosting.memory import MemoryHost
from trionode.hosting.port import RunningApp
from trionode.hosting.removal import AppRemoval
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import DosState
from trionode.store.eventlog import EventLog
from trionode.store.memory import MemoryStore
from trionode.wire.envelope import Envelope, seal
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeEntry, NodeList

OLD, NEW, THIRD = "1.1.1.1", "2.2.2.2:16137", "3.3.3.3"
DAY_S = 86_400.0


class Rig:
    """A node with apps, its log, and peers that may be dead."""

    def __init__(self, store: MemoryStore | None = None, *names: str) -> None:
        self.clock = VirtualClock()
        self.bus = EventBus()
        self.counters = Counters()
        self.store = store or MemoryStore()
        self.log = EventLog(AppStateSettings(), self.store, self.clock, self.bus, self.counters)
        self.host = MemoryHost(tuple(RunningApp(name, "aa" * 32) for name in names or ("web", "db")))
        self.key = NodeKey.generate(random.Random(5))
        self.dos = DosState(self.bus)
        self.own_address: str | None = None
        self.nodes = NodeList([NodeEntry(ip=OLD, pubkey=self.key.public_key)])
        self.links = 5
        self.static: set[str] = set()
        self.sent: list[tuple[float, dict[str, Any]]] = []
        self.confirmations = 0
        self.daemon_fails = False
        self.watch = AddressWatch(
            MonitorSettings(),
            facts=self,
            store=self.store,
            own_log=self.log,
            sender=self,
            host=self.host,
            removal=AppRemoval(self.host, self.counters),
            dos=self.dos,
            bus=self.bus,
            counters=self.counters,
            clock=self.clock,
            public_key=self.key.public_key,
            needs_static=self.static.__contains__,
            confirm=self.confirm,
            stop_grace_s=9,
        )

    async def confirm(self) -> str:
        await trio.lowlevel.checkpoint()
        self.confirmations += 1
        if self.daemon_fails:
            raise ChainError("no")
        return "hex"

    def seal(self, data: dict[str, Any]) -> Envelope:
        return seal(data, self.key, self.clock.now_ms())

    def broadcast_envelope(self, envelope: Envelope) -> int:
        self.sent.append((trio.current_time(), dict(envelope.data)))
        return self.links

    def live_links(self, since_ms: int) -> int:
        return self.links

    async def go_to(self, address: str | None) -> None:
        self.own_address = address
        self.bus.publish("chain:address", {"address": address})
        await trio.sleep(1)

    async def announce(self, ip: str, *names: str) -> None:
        now_ms = self.clock.now_ms()
        apps = [{"name": name, "hash": "aa" * 32} for name in names]
        data = {"type": "fluxapprunning", "version": 2, "apps": apps, "ip": ip, "broadcastedAt": now_ms}
        assert (await self.log.ingest(seal(data, self.key, now_ms))).accepted
        await trio.sleep(1)

    def served(self) -> set[tuple[str, str]]:
        return {(row.name, row.ip) for row in self.log.index.locations()}

    @property
    def left(self) -> list[str]:
        return [app.name for app in self.host.installed()]


@asynccontextmanager
async def watching(rig: Rig, address: str | None = OLD) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.log.run)
        await nursery.start(rig.watch.run)
        if address is not None:
            await rig.go_to(address)
            await rig.announce(address, *rig.left)
        yield rig
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_the_change_is_told_and_applied_at_once(autojump_clock: MockClock) -> None:
    async with watching(Rig()) as rig:
        await rig.go_to(NEW)
        ((_, data),) = rig.sent
        assert list(data) == ["type", "version", "oldIP", "newIP", "broadcastedAt"]
        assert (data["type"], data["version"], data["oldIP"], data["newIP"]) == (
            "fluxipchanged",
            1,
            OLD,
            NEW,
        )
        assert rig.served() == {("web", NEW), ("db", NEW)}
        assert rig.confirmations == 1
        assert rig.left == ["web", "db"]
        assert rig.host.actions == [
            ("stop", "fluxweb"),
            ("start", "web"),
            ("stop", "fluxdb"),
            ("start", "db"),
        ]
        assert rig.dos.state == 0


@pytest.mark.trio
async def test_the_news_wait_for_links_that_live(autojump_clock: MockClock) -> None:
    async with watching(Rig()) as rig:
        rig.links = 0
        start_s = trio.current_time()
        await rig.go_to(NEW)
        assert rig.served() == {("web", NEW), ("db", NEW)}, "the own log does not wait"
        await trio.sleep(60)
        assert rig.sent == []
        rig.links = 3
        await trio.sleep(15)
        ((at_s, data),) = rig.sent
        assert 60 < at_s - start_s <= 76
        assert data["broadcastedAt"] == rig.clock.now_ms() - round((trio.current_time() - at_s) * 1000)


@pytest.mark.trio
async def test_but_not_for_ever(autojump_clock: MockClock) -> None:
    async with watching(Rig()) as rig:
        rig.links = 0
        await rig.go_to(NEW)
        await trio.sleep(310)
        assert len(rig.sent) == 1
        assert rig.confirmations == 1


@pytest.mark.trio
async def test_apps_that_cannot_move_go(autojump_clock: MockClock) -> None:
    async with watching(Rig(None, "static", "twin", "web")) as rig:
        rig.static.add("static")
        await rig.announce("2.2.2.2:16147", "twin")
        await rig.announce("2.2.2.20", "web")
        await rig.go_to(NEW)
        assert rig.left == ["web"], "2.2.2.20 is another machine"
        assert len(rig.sent) == 1


@pytest.mark.trio
async def test_without_apps_nothing_is_told(autojump_clock: MockClock) -> None:
    async with watching(Rig(None, "static")) as rig:
        rig.static.add("static")
        await rig.go_to(NEW)
        assert rig.sent == []
        assert rig.confirmations == 1


@pytest.mark.trio
async def test_a_second_change_within_twenty_hours_costs_the_apps(autojump_clock: MockClock) -> None:
    async with watching(Rig()) as rig:
        await rig.go_to(NEW)
        await trio.sleep(3600)
        await rig.go_to(THIRD)
        assert rig.left == []
        assert len(rig.sent) == 1
        await trio.sleep(60)
        assert rig.dos.state == 11
        assert rig.dos.message is not None
        await trio.sleep(600)
        assert rig.dos.state >= 100
        await trio.sleep(20 * 3600)
        assert rig.dos.state == 0
        assert rig.dos.message is None


@pytest.mark.trio
async def test_changes_a_day_apart_are_ordinary(autojump_clock: MockClock) -> None:
    async with watching(Rig()) as rig:
        for address in (NEW, THIRD, OLD):
            await rig.go_to(address)
            await trio.sleep(20 * 3600 + 1)
        assert rig.left == ["web", "db"]
        assert rig.dos.state == 0
        assert rig.confirmations == 3


@pytest.mark.trio
async def test_a_change_during_a_restart_counts(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with watching(Rig(store)):
        pass
    async with watching(Rig(store), None) as rig:
        await rig.go_to(NEW)
        assert rig.served() == {("web", NEW), ("db", NEW)}
    async with watching(Rig(store), None) as rig:
        await rig.go_to(THIRD)
        assert rig.left == [], "and so does the one before that"


@pytest.mark.trio
async def test_what_is_no_change(autojump_clock: MockClock) -> None:
    async with watching(Rig()) as rig:
        await rig.go_to(None)
        await rig.go_to(OLD)
        await rig.go_to(f"{OLD}:16147")
        assert rig.sent == []
        assert rig.confirmations == 0
        await rig.go_to(NEW)
        assert rig.confirmations == 1


@pytest.mark.trio
async def test_peers_would_not_believe_an_unlisted_node(autojump_clock: MockClock) -> None:
    async with watching(Rig()) as rig:
        rig.nodes = NodeList([NodeEntry(ip=OLD, pubkey="another")])
        await rig.go_to(NEW)
        assert rig.sent == []
        assert rig.served() == {("web", NEW), ("db", NEW)}
        assert rig.confirmations == 1


@pytest.mark.trio
async def test_failures_stop_nothing(autojump_clock: MockClock) -> None:
    async with watching(Rig()) as rig:
        rig.daemon_fails = True
        rig.host.failing.add("fluxweb")
        await rig.go_to(NEW)
        assert len(rig.sent) == 1
        assert rig.counters["address.restart_failed"] == 1
        assert rig.counters["address.not_confirmed"] == 1
        await trio.sleep(DAY_S / 2)


@pytest.mark.trio
async def test_an_engine_that_hangs_does_not_keep_the_news_back(autojump_clock: MockClock) -> None:
    async with watching(Rig()) as rig:
        rig.host.hanging = True
        await rig.go_to(NEW)
        await trio.sleep(2 * 69)
        assert len(rig.sent) == 1
        assert rig.counters["address.restart_failed"] == 2


@pytest.mark.trio
async def test_a_damaged_note_is_forgotten(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    await store.put_meta("ownAddress", "{")
    async with watching(Rig(store)) as rig:
        await rig.go_to(NEW)
        assert len(rig.sent) == 1


class FailsAtCommits(MemoryStore):
    """Named values can be written, events cannot, once it is told so."""

    is_failing = False

    def commit_now(self, changes: Sequence[Change]) -> None:
        if self.is_failing:
            raise StoreError("the disk is full", remedy="free some space")
        super().commit_now(changes)


@pytest.mark.trio
async def test_the_network_is_told_though_the_own_store_fails(autojump_clock: MockClock) -> None:
    store = FailsAtCommits()
    async with watching(Rig(store)) as rig:
        store.is_failing = True
        await rig.go_to(NEW)
        assert len(rig.sent) == 1
        assert rig.counters["address.not_stored"] == 1
        assert rig.confirmations == 1
