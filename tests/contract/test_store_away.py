"""One suite for every way a store can be away: full, read-only, locked, not there (docs/storage.md).

While it lasts nothing is acknowledged or published, the node says since when, why and what to do, and the
supervisor does not give up; afterwards all goes on by itself, and memory is what is stored.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from mongoserver import Databases
from storetrouble import KINDS, SQLITE, Trouble, trouble

from trionode.appstate.documents import EventRow
from trionode.config.tree import AppStateSettings, StoreSettings, SupervisorSettings
from trionode.errors import StoreAway, StoreError
from trionode.registry.changes import PutMeta, RegistryChange, SetScannedHeight
from trionode.registry.rows import CurrentSpec
from trionode.runtime import supervisor as supervision
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.supervisor import Supervisor
from trionode.store.eventlog import EventLog
from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import stringify

pytestmark = [pytest.mark.trio, pytest.mark.process]

NOW_MS = 4_100_000_000_000
"""Far ahead: what has expired the server itself deletes, once a minute."""
CRASH_LIMIT = 2
LONG_S = 600.0
"""Longer than any test: who waits for this waits for ever."""
WITHIN_S = 120.0
"""Long enough on the busiest machine."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def databases(request: pytest.FixtureRequest, kind: str) -> Databases | None:
    return None if kind in SQLITE else request.getfixturevalue("mongo")


@pytest.fixture
async def patient(kind: str, databases: Databases | None, tmp_path: Path) -> AsyncIterator[Trouble]:
    """Stores that wait for the end of the trouble."""
    async with trouble(kind, tmp_path, databases, retry_s=LONG_S) as made:
        yield made


@pytest.fixture
async def hasty(kind: str, databases: Databases | None, tmp_path: Path) -> AsyncIterator[Trouble]:
    """Stores that give up soon, again and again."""
    async with trouble(kind, tmp_path, databases, retry_s=0.05) as made:
        yield made


class Node:
    """An event log under a supervisor that gives up soon, and peers who tell it news all the time."""

    def __init__(self, away: Trouble) -> None:
        self.away = away
        self.bus, self.counters, self.clock = EventBus(), Counters(), VirtualClock()
        self.clock.now_ms = lambda: NOW_MS  # type: ignore[method-assign]
        self.log = EventLog(
            AppStateSettings(),
            away.stores.events,
            self.clock,
            self.bus,
            self.counters,
            store_settings=StoreSettings(queue_batches=4, commit_batch_changes=10),
        )
        self.supervisor = Supervisor(
            self.counters, random.Random(1), settings=SupervisorSettings(crash_limit=CRASH_LIMIT)
        )
        self.supervisor.add(self.log, essential=True)
        self.acked: list[str] = []
        self.refused: list[str] = []
        self._number = 0

    async def hear(self) -> None:
        """One message; noted where it was acknowledged or refused."""
        self._number += 1
        ip = f"1.1.{self._number // 250}.{self._number % 250 + 1}"
        app = [{"name": f"App{self._number}", "hash": "h"}]
        data = {"type": "fluxapprunning", "version": 2, "apps": app, "ip": ip, "broadcastedAt": NOW_MS}
        envelope = Envelope(1, NOW_MS, "pk", "s", data, stringify(data))
        try:
            decision = await self.log.ingest(envelope)
        except StoreError:
            self.refused.append(ip)
        else:
            assert decision.relay
            self.acked.append(ip)

    async def hear_all_the_time(self) -> None:
        while True:
            await self.hear()
            await trio.sleep(0.01)

    @property
    def told(self) -> list[str]:
        return [event.data["ip"] for event in self.bus.replay() if event.name == "network:apprunning"]

    async def stored(self) -> set[str]:
        return {row.ip async for row in self.away.stores.events.load() if isinstance(row, EventRow)}

    def listed(self) -> set[str]:
        return {row.ip for row in self.log.locations()}


@asynccontextmanager
async def node_on(away: Trouble) -> AsyncIterator[Node]:
    node = Node(away)
    away.server.report_to(node.counters, node.bus)
    async with trio.open_nursery() as nursery:
        await nursery.start(node.supervisor.run)
        yield node
        node.supervisor.stop("the test is over")


async def until(condition: Any) -> None:
    with trio.fail_after(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await trio.sleep(0.01)


async def ended(away: Trouble) -> None:
    """End the trouble, and wait until it is noticed: a client looks for a lost server now and then only."""
    away.end()
    with trio.fail_after(WITHIN_S):
        while True:
            try:
                await away.stores.events.put_meta("probe", "1")
            except StoreAway:
                await trio.sleep(0.01)
            else:
                return


def spec(name: str) -> CurrentSpec:
    return CurrentSpec(name, stringify({"name": name, "version": 8}), f"hash-of-{name}", 100)


async def test_messages_wait_and_are_told_when_they_are_stored(patient: Trouble) -> None:
    async with node_on(patient) as node:
        await node.hear()
        patient.begin()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(node.hear)
            await until(lambda: not patient.server.is_connected)
            assert len(node.acked) == 1
            assert node.told == node.acked, "nothing is passed on that a crash could lose"
            patient.end()
        assert not node.refused
        assert sorted(node.told) == sorted(node.acked)
        assert await node.stored() == set(node.acked) == node.listed()
        assert patient.server.is_connected
        assert not any(row.crashes for row in node.supervisor.status())


async def test_an_outage_of_any_length_ends_no_node(hasty: Trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_PASSING_PAUSE_S", 0.01)
    async with node_on(hasty) as node, trio.open_nursery() as nursery:
        nursery.start_soon(node.hear_all_the_time)
        await until(lambda: len(node.acked) >= 3)
        hasty.begin()
        await until(lambda: not hasty.server.is_connected)
        before = len(node.acked)
        await until(lambda: node.counters["service.put_off.eventlog"] > CRASH_LIMIT + 1)
        # One that was under way when it began may have been stored still.
        assert len(node.acked) <= before + 1
        assert node.refused
        assert node.supervisor.stop_reason is None
        (row,) = node.supervisor.status()
        assert row.crashes == 0
        assert "StoreAway" in (row.last_error or "")
        hasty.end()
        await until(lambda: len(node.acked) >= before + 5 and hasty.server.is_connected)
        nursery.cancel_scope.cancel()
    stored = await node.stored()
    assert set(node.acked) <= stored, "acknowledged and lost"
    assert set(node.told) <= stored, "told and lost"
    assert node.listed() <= stored, "memory is ahead of the store"
    assert node.counters["service.crashed.eventlog"] == 0


async def test_since_when_and_why_is_told(hasty: Trouble) -> None:
    counters, bus = Counters(), EventBus()
    server, stores = hasty.server, hasty.stores
    await stores.events.put_meta("k", "1")
    server.report_to(counters, bus)
    found = server.document()
    assert (found["connected"], found["problem"], found["lostForS"]) == (True, None, None)
    hasty.begin()
    for _ in range(2):
        with pytest.raises(StoreAway) as caught:
            await stores.events.put_meta("k", "2")
    assert caught.value.remedy
    assert caught.value.is_passing
    found = server.document()
    assert not found["connected"]
    assert found["readable"] == server.is_readable
    if hasty.can_be_read:
        assert server.is_readable
    assert found["problem"] in str(caught.value) or "write" in found["problem"]
    assert found["remedy"]
    assert found["lostForS"] >= 0
    await ended(hasty)
    await stores.events.put_meta("k", "3")
    assert await stores.events.get_meta("k") == "3"
    found = server.document()
    assert (found["connected"], found["problem"], found["lostForS"]) == (True, None, None)
    changes = [event.data["connected"] for event in bus.replay() if event.name == "store:connection"]
    assert changes == [False, True], "told once each"
    assert (
        sum(counters.snapshot("store.").get(f"store.{name}.losses", 0) for name in ("sqlite", "mongo")) == 1
    )


async def test_the_registry_waits_in_order(patient: Trouble) -> None:
    registry = patient.stores.registry
    await registry.commit([SetScannedHeight(1), PutMeta("who", "first")])
    patient.begin()

    async def commit(*changes: RegistryChange) -> None:
        await registry.commit(changes)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit, SetScannedHeight(2), PutMeta("who", "second"))
        await until(lambda: not patient.server.is_connected)
        nursery.start_soon(commit, SetScannedHeight(3), PutMeta("who", "third"))
        await trio.sleep(0.3)
        if patient.can_be_read:
            assert await registry.scanned_height() == 1
        patient.end()
    assert await registry.scanned_height() == 3
    assert await registry.get_meta("who") == "third"


async def test_a_commit_that_gave_up_has_left_nothing(hasty: Trouble) -> None:
    registry = hasty.stores.registry
    await registry.commit([SetScannedHeight(1), PutMeta("who", "first")])
    hasty.begin()
    with pytest.raises(StoreAway):
        await registry.commit([SetScannedHeight(2), PutMeta("who", "second")])
    await ended(hasty)
    assert await registry.scanned_height() == 1
    assert await registry.get_meta("who") == "first"
    await registry.commit([SetScannedHeight(2), PutMeta("who", "second")])
    assert await registry.scanned_height() == 2


async def test_who_is_cancelled_while_it_waits_has_stored_nothing(patient: Trouble) -> None:
    registry = patient.stores.registry
    await registry.commit([SetScannedHeight(1)])
    patient.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.commit, [SetScannedHeight(2)])
        await until(lambda: not patient.server.is_connected)
        nursery.cancel_scope.cancel()
    patient.end()
    assert await registry.scanned_height() == 1
    await registry.commit([SetScannedHeight(3)])
    assert await registry.scanned_height() == 3


async def test_installed_apps_are_kept_and_can_be_changed_afterwards(hasty: Trouble) -> None:
    local = hasty.stores.local
    await local.put(spec("Shop"))
    hasty.begin()
    for call in (local.put(spec("Other")), local.delete("Shop"), local.put_meta("k", "v")):
        with pytest.raises(StoreAway):
            await call
    await ended(hasty)
    assert list(await local.rows()) == [spec("Shop")]
    assert await local.get_meta("k") is None
    await local.put(spec("Other"))
    await local.delete("Shop")
    assert list(await local.rows()) == [spec("Other")]


@pytest.mark.parametrize("kind", SQLITE)
async def test_who_looks_after_containers_is_not_kept_waiting(patient: Trouble) -> None:
    patient.begin()
    with trio.fail_after(LONG_S / 2), pytest.raises(StoreAway):
        await patient.stores.local.put(spec("Shop"))
    with trio.fail_after(LONG_S / 2), pytest.raises(StoreAway):
        await patient.stores.events.put_meta("heartbeat", "now")


@pytest.mark.parametrize("kind", SQLITE)
async def test_a_trouble_nobody_tries_any_more_ends_with_the_next_write(hasty: Trouble) -> None:
    hasty.begin()
    with pytest.raises(StoreAway):
        await hasty.stores.local.put(spec("Shop"))
    hasty.end()
    assert not hasty.server.is_connected
    await hasty.stores.events.put_meta("heartbeat", "now")
    assert hasty.server.is_connected
