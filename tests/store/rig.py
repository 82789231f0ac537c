"""An event log with everything it needs, for tests: store, virtual clock, bus, counters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from trionode.appstate.changes import Change
from trionode.config.tree import AppStateSettings, StoreSettings
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.store.eventlog import EventLog
from trionode.store.memory import MemoryStore
from trionode.store.port import Store
from trionode.store.sqlite_file import SqliteFile
from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import stringify

IP = "1.1.1.1"


class SlowStore(MemoryStore):
    """A store with a disk's manners: commits wait until they are let through, or fail."""

    immediate = False

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[int] = []
        self.gate = trio.Event()
        self.gate.set()
        self.problem: Exception | None = None

    async def commit(self, changes: Sequence[Change]) -> None:
        await self.gate.wait()
        if self.problem is not None:
            raise self.problem
        self.commits.append(len(changes))
        await super().commit(changes)


class Rig:
    """An event log and all it was given."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store = store
        self.clock = VirtualClock()
        self.bus = EventBus()
        self.counters = Counters()
        store_settings = StoreSettings(queue_batches=4, commit_batch_changes=10)
        self.log = EventLog(
            AppStateSettings(**settings),
            store,
            self.clock,
            self.bus,
            self.counters,
            store_settings=store_settings,
        )

    def running(self, *names: str, ip: str = IP, age_ms: int = 0) -> Envelope:
        now_ms = self.clock.now_ms()
        apps = [{"name": name, "hash": "h"} for name in names]
        data = {"type": "fluxapprunning", "version": 2, "apps": apps, "ip": ip}
        return self.envelope(data | {"broadcastedAt": now_ms - age_ms})

    def envelope(self, data: dict[str, Any]) -> Envelope:
        return Envelope(1, self.clock.now_ms(), "pk", "s", data, stringify(data))

    def told(self) -> list[str]:
        return [event.name for event in self.bus.replay()]

    def places(self) -> list[str]:
        return sorted(f"{row.name}@{row.ip}" for row in self.log.locations())


def wait_longer(file: SqliteFile) -> None:
    """For a lock, a hundred times as long as it does: what holds it a moment may stand still for a while."""
    assert file._writer is not None
    (wait_ms,) = file._writer.execute("PRAGMA busy_timeout").fetchone()
    file._writer.execute(f"PRAGMA busy_timeout = {100 * wait_ms}")


@asynccontextmanager
async def running_log(store: Store, **settings: Any) -> AsyncIterator[Rig]:
    rig = Rig(store, **settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.log.run)
        yield rig
        nursery.cancel_scope.cancel()
