"""The heartbeat: the node notes that it is alive, so that its next life knows how long it was away.

It is the first service of all and reads the record of the last life before it writes its own, so the
boot context is right even if the chain daemon stays away for hours (docs/spec/lifecycle.md §4, D-4).
A store that fails costs the context, never the start. While it cannot be written the note goes into a file.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import trio

from trionode.config.tree import SystemSettings
from trionode.errors import StoreError
from trionode.lifecycle.boot import (
    NO_LIFE,
    UNKNOWN_CONTEXT,
    AliveRecord,
    BootContext,
    boot_context,
    former_life,
)
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.runtime.machine import Machine
from trionode.store.port import Store

META_KEY = "heartbeat"

log = get_logger("hosting.heartbeat")


class SpareBeat(Protocol):
    """Keeps the record where the store cannot (`hosting.beatfile.BeatFile`)."""

    async def open(self) -> AliveRecord | None: ...

    async def keep(self, record: AliveRecord) -> bool: ...


class Heartbeat:
    """Service "heartbeat". `context` is known once the service is ready."""

    name = "heartbeat"

    def __init__(
        self,
        settings: SystemSettings,
        store: Store,
        machine: Machine,
        clock: WallClock,
        counters: Counters,
        *,
        spare: SpareBeat | None = None,
    ) -> None:
        self._spare = spare
        self._written: set[int | None] = set()
        self._interval_s = settings.heartbeat_interval_s
        self._store = store
        self._machine = machine
        self._clock = clock
        self._counters = counters
        self._context: BootContext | None = None
        self._pending: AliveRecord | None = None
        self._boot_id: str | None = None
        self._leaving = False
        self._turn = trio.Lock()

    @property
    def context(self) -> BootContext:
        """How this start relates to the last life; the most careful assumption until it is read."""
        return UNKNOWN_CONTEXT if self._context is None else self._context

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read the record of the last life, then write ours until cancelled."""
        if self._context is None:
            self._context = await self._read()
            log.info("boot context", **self._context.as_json())
        await self._beat()
        task_status.started()
        while True:
            await trio.sleep(self._interval_s)
            await self._beat()

    async def _read(self) -> BootContext:
        self._boot_id = self._machine.boot_id()
        try:
            text = await self._store.get_meta(META_KEY)
            record = None if text is None else msgspec.json.decode(text, type=AliveRecord)
        except (StoreError, msgspec.DecodeError) as error:
            self._counters.add("heartbeat.unreadable")
            log.error("the record of the last life cannot be read", problem=str(error))
            self._pending = NO_LIFE
            return UNKNOWN_CONTEXT
        record = await self._newest(record)
        self._pending = former_life(record) or NO_LIFE
        return boot_context(record, self._boot_id, self._clock.now_ms())

    async def _newest(self, stored: AliveRecord | None) -> AliveRecord | None:
        """The spare record counts when it is later. Beside a store without any it is another node's."""
        kept = None if self._spare is None else await self._spare.open()
        if stored is None or kept is None or (kept.last_alive or 0) <= (stored.last_alive or 0):
            return stored
        log.warning("the store could not be written in the last life", stored=stored.last_alive)
        return kept

    async def settled(self) -> None:
        """The boot decision is carried out: from now on our own record counts."""
        self._pending = None
        await self._beat()

    async def record_shutdown(self, reason: str) -> None:
        """Note why this life ends; no beat follows that could wipe it out. Raises StoreError.

        A life that has not read the record before it does not touch it.
        """
        self._leaving = True
        if self._context is None:
            return
        async with self._turn:
            await self._write(reason)

    async def _beat(self) -> None:
        if self._leaving:
            return
        try:
            async with self._turn:
                if not self._leaving:
                    await self._write(None)
        except StoreError as error:
            self._counters.add("heartbeat.failed")
            log.error("heartbeat not stored", problem=error.one_line())

    async def _look_for_others(self) -> None:
        """Nobody but us writes this record, unless two nodes were given one database."""
        text = await self._store.get_meta(META_KEY)
        found = None if text is None else _read_record(text)
        if found is None or found.last_alive in self._written:
            return
        self._counters.add("heartbeat.another_node")
        log.error(
            "another node writes to the database of this one, and each overwrites what the other stores",
            its_boot=found.machine_boot_id,
            remedy="stop one of them and give it a store.mongo_prefix of its own (docs/storage.md)",
        )

    async def _write(self, reason: str | None) -> None:
        record = AliveRecord(self._clock.now_ms(), self._boot_id, reason, self._pending)
        try:
            if self._written and reason is None:
                await self._look_for_others()
            # What raises may be stored all the same.
            self._written.add(record.last_alive)
            await self._store.put_meta(META_KEY, msgspec.json.encode(record).decode())
        except StoreError:
            if self._spare is not None:
                await self._spare.keep(record)
            raise
        self._written = {record.last_alive}


def _read_record(text: str) -> AliveRecord | None:
    try:
        return msgspec.json.decode(text, type=AliveRecord)
    except msgspec.DecodeError as error:
        log.warning("the stored heartbeat cannot be read", problem=str(error))
        return None
