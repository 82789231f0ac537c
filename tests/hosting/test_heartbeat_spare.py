"""The heartbeat while the store cannot be written: kept in a file, so that a reboot later costs no apps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from trionode.config.tree import SystemSettings
from trionode.errors import StoreError
from trionode.hosting.beatfile import SIZE_BYTES, BeatFile
from trionode.hosting.heartbeat import Heartbeat
from trionode.lifecycle.boot import AliveRecord, BootAction, BootDecision, BootFacts, BootLimits, decide
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.machine import MemoryMachine
from trionode.store.memory import MemoryStore

HOURS_S = 3 * 3600


class AwayStore(MemoryStore):
    """Cannot be written while it is away."""

    is_away = False

    async def put_meta(self, key: str, value: str) -> None:
        if self.is_away:
            raise StoreError("the disk is full")
        await super().put_meta(key, value)


class MemorySpare:
    """A `SpareBeat` of which a test sees the record; files and a mock clock do not go together."""

    def __init__(self) -> None:
        self.record: AliveRecord | None = None

    async def open(self) -> AliveRecord | None:
        await trio.lowlevel.checkpoint()
        return self.record

    async def keep(self, record: AliveRecord) -> bool:
        await trio.lowlevel.checkpoint()
        self.record = record
        return True


class World:
    """What outlives a process."""

    def __init__(self) -> None:
        self.machine, self.clock = MemoryMachine(), VirtualClock()
        self.store, self.spare = AwayStore(), MemorySpare()
        self.counters = Counters()

    def heart(self) -> Heartbeat:
        return Heartbeat(
            SystemSettings(), self.store, self.machine, self.clock, self.counters, spare=self.spare
        )

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Heartbeat]:
        heart = self.heart()
        async with trio.open_nursery() as nursery:
            await nursery.start(heart.run)
            await heart.settled()
            yield heart
            nursery.cancel_scope.cancel(reason="kill -9")


@pytest.mark.trio
async def test_a_reboot_after_hours_without_a_store_costs_no_apps(autojump_clock: MockClock) -> None:
    world = World()
    async with world.life():
        world.store.is_away = True
        await trio.sleep(HOURS_S)
        assert world.counters["heartbeat.failed"] >= HOURS_S // 30 - 1
    world.machine.reboot()
    world.store.is_away = False
    async with world.life() as heart:
        assert heart.context.machine_rebooted
        assert heart.context.downtime_ms <= 30_000
        facts = BootFacts(True, status_known=True, confirmed=True, data_ready=True)
        found = decide(heart.context, facts, BootLimits())
        assert isinstance(found, BootDecision)
        assert found.action is BootAction.RECONCILE


@pytest.mark.trio
async def test_a_store_that_is_written_again_counts_again(autojump_clock: MockClock) -> None:
    world = World()
    async with world.life():
        world.store.is_away = True
        await trio.sleep(100)
        world.store.is_away = False
        await trio.sleep(1000)
    world.machine.reboot()
    await trio.sleep(500)
    async with world.life() as heart:
        assert 500_000 <= heart.context.downtime_ms <= 530_000


@pytest.mark.trio
async def test_the_reason_of_a_shutdown_is_kept_too(autojump_clock: MockClock) -> None:
    world = World()
    async with world.life() as heart:
        world.store.is_away = True
        await trio.sleep(1)
        with pytest.raises(StoreError):
            await heart.record_shutdown("sigterm")
    world.store.is_away = False
    world.machine.reboot()
    async with world.life() as heart:
        assert heart.context.clean_shutdown


@pytest.mark.trio
async def test_a_spare_record_beside_an_empty_store_is_anothers(autojump_clock: MockClock) -> None:
    world = World()
    world.spare.record = AliveRecord(world.clock.now_ms(), "another boot")
    async with world.life() as heart:
        assert heart.context.first_boot


@pytest.mark.trio
async def test_two_nodes_on_one_database_are_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world, other = World(), World()
    other.store = world.store
    async with world.life():
        await trio.sleep(10)
        async with other.life():
            await trio.sleep(300)
    assert world.counters["heartbeat.another_node"] >= 9
    assert other.counters["heartbeat.another_node"] >= 9
    assert "mongo_prefix" in caplog.text


@pytest.mark.trio
async def test_one_node_is_never_two(autojump_clock: MockClock) -> None:
    """Not after a beat whose answer was lost, nor after a restart, nor in an outage."""

    class LosesAnswers(AwayStore):
        is_losing = False

        async def put_meta(self, key: str, value: str) -> None:
            await super().put_meta(key, value)
            if self.is_losing:
                raise StoreError("the answer was lost")

    world = World()
    world.store = store = LosesAnswers()
    async with world.life():
        await trio.sleep(100)
        store.is_losing = True
        await trio.sleep(100)
        store.is_losing, store.is_away = False, True
        await trio.sleep(100)
        store.is_away = False
        await trio.sleep(100)
    async with world.life():
        await trio.sleep(100)
    assert world.counters["heartbeat.failed"] > 0
    assert world.counters["heartbeat.another_node"] == 0


# The file


@pytest.mark.trio
async def test_the_file_keeps_one_record_in_place(tmp_path: Path) -> None:
    place = BeatFile(tmp_path / "alive")
    assert await place.open() is None
    inode = place.path.stat().st_ino
    first = AliveRecord(1_700_000_000_000, "a" * 36, "sigterm", AliveRecord(5, "b" * 36))
    assert await place.keep(first)
    assert await BeatFile(place.path).open() == first
    assert await place.keep(AliveRecord(6))
    assert await place.open() == AliveRecord(6)
    assert (place.path.stat().st_size, place.path.stat().st_ino) == (SIZE_BYTES, inode)
    assert place.path.stat().st_mode & 0o077 == 0


@pytest.mark.trio
@pytest.mark.parametrize("content", [b"{", b"[]", b'{"lastAlive": "x"}', bytes(2000)])
async def test_a_damaged_file_is_no_record_and_is_written_again(tmp_path: Path, content: bytes) -> None:
    place = BeatFile(tmp_path / "alive")
    place.path.write_bytes(content)
    assert await place.open() is None
    assert await place.keep(AliveRecord(7))
    assert msgspec.json.decode(place.path.read_bytes()[:SIZE_BYTES], type=AliveRecord) == AliveRecord(7)


@pytest.mark.trio
async def test_a_place_that_cannot_be_written_is_told_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    place = BeatFile(tmp_path / "file" / "alive")
    assert await place.open() is None
    assert not await place.keep(AliveRecord(1))
    said = [record for record in caplog.records if record.name.endswith("hosting.beatfile")]
    assert [record.levelname for record in said] == ["WARNING", "ERROR"]
