"""The eviction sweep with a real event log: who goes, and every reason why somebody stays."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trionode.config.tree import AppStateSettings, MonitorSettings
from trionode.errors import StoreError
from trionode.hosting.sweep import Sweep
from trionode.lifecycle.monitors import Word
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.store.eventlog import EventLog
from trionode.store.memory import MemoryStore
from trionode.wire.address import with_port
from trionode.wire.envelope import seal
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeEntry, NodeList

ME = "9.0.0.1"


def address(number: int) -> str:
    return f"1.{number // 200}.{number % 200}.1"


class Rig:
    """A log with apps of some nodes, a node list, and what nodes say when they are asked."""

    own_address = ME

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.counters = Counters()
        bus = EventBus()
        self.log = EventLog(AppStateSettings(), MemoryStore(), self.clock, bus, self.counters)
        rng = random.Random(3)
        self.keys = [NodeKey.generate(rng) for _ in range(3)]
        self.synced = True
        self.can_send = True
        self.fetches = True
        self.is_sound = True
        self.listed: dict[str, str] = {ME: "mine"}
        self.nodes = NodeList()
        self.words: dict[str, Word] = {}
        self.takes_s = 0.0
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.sweep = Sweep(
            MonitorSettings(),
            facts=self,
            log=self.log,
            probe=self,
            is_sound=lambda: self.is_sound,
            counters=self.counters,
            rng=random.Random(1),
        )

    async def refresh_nodes(self) -> bool:
        await trio.lowlevel.checkpoint()
        if self.fetches:
            self.nodes = NodeList(NodeEntry(ip=ip, pubkey=key) for ip, key in self.listed.items())
        return self.fetches

    async def word_of(self, ip: str, port: int) -> Word:
        where = with_port(f"{ip}:{port}")
        self.asked.append(where)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await trio.sleep(self.takes_s)
        finally:
            self.at_once -= 1
        return self.words.get(where, Word.SILENT)

    def list_node(self, ip: str, key: NodeKey) -> None:
        self.listed[ip] = key.public_key

    def says(self, ip: str, word: Word) -> None:
        self.words[with_port(ip)] = word

    async def announce(self, ip: str, key: NodeKey, *, app: str = "web") -> None:
        now_ms = self.clock.now_ms()
        data = {
            "type": "fluxapprunning",
            "version": 2,
            "apps": [{"name": app, "hash": "aa" * 32}],
            "ip": ip,
            "broadcastedAt": now_ms,
        }
        assert (await self.log.ingest(seal(data, key, now_ms))).accepted
        await trio.sleep(0.01)

    async def move(self, old: str, new: str, key: NodeKey) -> None:
        now_ms = self.clock.now_ms() + 1
        data = {"type": "fluxipchanged", "version": 1, "oldIP": old, "newIP": new, "broadcastedAt": now_ms}
        assert (await self.log.ingest(seal(data, key, now_ms))).accepted
        await trio.sleep(0.01)

    def served(self) -> set[str]:
        return {row.ip for row in self.log.index.locations()}


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    world = Rig()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.log.run)
        yield world
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def two_nodes() -> AsyncIterator[Rig]:
    """Both run an app and were listed; then the second is taken off the list."""
    async with rig() as world:
        first, second = world.keys[:2]
        world.list_node(address(1), first)
        await world.announce(address(1), first)
        await world.announce(address(2), second)
        yield world


@pytest.mark.trio
async def test_who_left_the_list_is_evicted(autojump_clock: MockClock) -> None:
    async with two_nodes() as world:
        report = await world.sweep.run()
        assert report.evicted == (address(2),)
        assert world.served() == {address(1)}
        assert world.asked == [], "its key is nowhere in the list: there is nothing to ask"
        again = await world.sweep.run()
        assert again.suspects == 0


@pytest.mark.trio
async def test_a_delisted_node_cannot_vouch_for_itself(autojump_clock: MockClock) -> None:
    async with two_nodes() as world:
        world.says(address(2), Word.CONFIRMED)
        assert (await world.sweep.run()).evicted == (address(2),)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("word", "evicted"), [(Word.CONFIRMED, False), (Word.OTHER, True), (Word.SILENT, True)]
)
async def test_a_node_that_moves_is_asked(word: Word, evicted: bool, autojump_clock: MockClock) -> None:
    """Its key is listed at another address: its own word decides."""
    async with two_nodes() as world:
        world.list_node(address(7), world.keys[1])
        world.says(address(7), Word.CONFIRMED)
        world.says(address(2), word)
        report = await world.sweep.run()
        assert bool(report.evicted) is evicted
        assert (address(2) in world.served()) is not evicted
        if not evicted:
            assert report.kept == ((address(2), "moving"),)


@pytest.mark.trio
@pytest.mark.parametrize("word", [Word.CONFIRMED, Word.SILENT])
async def test_rows_that_moved_with_their_node(word: Word, autojump_clock: MockClock) -> None:
    """After `fluxipchanged` the new address is asked, and an eviction takes the rows away there."""
    async with two_nodes() as world:
        world.list_node(address(2), world.keys[1])
        await world.move(address(2), address(3), world.keys[1])
        assert address(3) in world.served()
        world.says(address(1), Word.CONFIRMED)
        world.says(address(3), word)
        await world.sweep.run()
        assert with_port(address(3)) in world.asked
        assert (address(3) in world.served()) is (word is Word.CONFIRMED)
        world.list_node(address(3), world.keys[1])
        assert (await world.sweep.run()).suspects == 0


@pytest.mark.trio
async def test_an_app_seen_again_at_an_evicted_address_is_served_again(autojump_clock: MockClock) -> None:
    async with two_nodes() as world:
        await world.sweep.run()
        world.list_node(address(2), world.keys[1])
        await trio.sleep(1)
        await world.announce(address(2), world.keys[1])
        assert address(2) in world.served()
        assert (await world.sweep.run()).suspects == 0


# --- reasons to do nothing ------------------------------------------------------------------------


@pytest.mark.trio
@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("is_sound", "own network"),
        ("synced", "not synced"),
        ("fetches", "could not be fetched"),
        ("can_send", "does not have this node"),
    ],
)
async def test_no_sweep_on_shaky_ground(attribute: str, reason: str, autojump_clock: MockClock) -> None:
    async with two_nodes() as world:
        setattr(world, attribute, False)
        report = await world.sweep.run()
        assert reason in report.skipped
        assert report.evicted == ()
        assert len(world.served()) == 2
        setattr(world, attribute, True)
        assert (await world.sweep.run()).evicted == (address(2),)


@pytest.mark.trio
async def test_silence_of_everybody_is_our_own_outage(autojump_clock: MockClock) -> None:
    async with two_nodes() as world:
        world.list_node(address(7), world.keys[1])
        report = await world.sweep.run()
        assert report.evicted == ()
        assert report.kept == ((address(2), "own network"),)
        assert set(world.asked) == {with_port(address(n)) for n in (1, 2, 7)}, "listed nodes were asked too"
        assert address(2) in world.served()


@pytest.mark.trio
async def test_our_network_may_break_down_during_the_questions(autojump_clock: MockClock) -> None:
    async with two_nodes() as world:
        world.list_node(address(7), world.keys[1])
        world.says(address(2), Word.OTHER)
        world.takes_s = 5.0
        async with trio.open_nursery() as nursery:

            async def break_down() -> None:
                await trio.sleep(2)
                world.is_sound = False

            nursery.start_soon(break_down)
            report = await world.sweep.run()
        assert "meanwhile" in report.skipped
        assert len(world.served()) == 2


@pytest.mark.trio
async def test_a_node_listed_again_during_the_questions_stays(autojump_clock: MockClock) -> None:
    async with two_nodes() as world:
        world.list_node(address(7), world.keys[1])
        world.says(address(2), Word.OTHER)
        world.takes_s = 5.0
        async with trio.open_nursery() as nursery:

            async def come_back() -> None:
                await trio.sleep(2)
                world.list_node(address(2), world.keys[1])
                await world.refresh_nodes()

            nursery.start_soon(come_back)
            report = await world.sweep.run()
        assert report.evicted == ()
        assert report.kept == ((address(2), "listed again"),)


@pytest.mark.trio
async def test_a_sudden_mass_of_suspects_must_be_seen_twice(autojump_clock: MockClock) -> None:
    async with rig() as world:
        for number in range(1, 41):
            await world.announce(address(number), world.keys[0])
        world.list_node(address(1), world.keys[1])
        first = await world.sweep.run()
        assert "39 of 40" in first.skipped
        assert len(world.served()) == 40
        second = await world.sweep.run()
        assert len(second.evicted) == 39
        assert world.served() == {address(1)}


@pytest.mark.trio
async def test_a_list_that_was_short_once_costs_nobody_anything(autojump_clock: MockClock) -> None:
    async with rig() as world:
        for number in range(1, 41):
            world.list_node(address(number), world.keys[0])
            await world.announce(address(number), world.keys[0])
        whole = dict(world.listed)
        for _ in range(3):
            world.listed = {ME: "mine", address(1): "other"}
            assert (await world.sweep.run()).skipped
            world.listed = dict(whole)
            assert (await world.sweep.run()).suspects == 0
        assert len(world.served()) == 40


@pytest.mark.trio
async def test_questions_are_bounded_in_number_and_time(autojump_clock: MockClock) -> None:
    async with rig() as world:
        world.list_node(address(0), world.keys[0])
        for number in range(1, 17):
            await world.announce(address(number), world.keys[0])
        world.takes_s = 1000.0
        start_s = trio.current_time()
        report = await world.sweep.run()
        assert report.suspects == 16
        assert report.evicted == ()
        assert world.most_at_once == 8
        # two rounds of suspects and one of listed nodes, each cut off after 20 s
        assert trio.current_time() - start_s == pytest.approx(60)


@pytest.mark.trio
async def test_a_failing_store_ends_the_sweep_with_its_own_error(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_nodes() as world:

        async def fail(**_: object) -> None:
            raise StoreError("the disk is gone")

        monkeypatch.setattr(world.log.store, "events_for", fail)
        with pytest.raises(StoreError, match="gone"):
            await world.sweep.run()
        assert len(world.served()) == 2


@pytest.mark.trio
async def test_an_address_nobody_can_have_is_evicted(autojump_clock: MockClock) -> None:
    async with rig() as world:
        world.list_node(address(0), world.keys[0])
        await world.announce("no:port", world.keys[0])
        assert (await world.sweep.run()).evicted == ("no:port",)
