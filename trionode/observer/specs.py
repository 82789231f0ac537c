"""Specifications in force, by the majority of the sources: an observer reads no chain (docs/observer.md).

Whoever asks what is registered gets what more than half of the sources tell in the same words. With fewer
than three answers there are none: half a registry would be taken for a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from trionode.config.observer import ObserverSettings
from trionode.errors import WireError
from trionode.observer.answers import SPECS_PATH, ToldSpec, read_specs
from trionode.observer.counting import count
from trionode.observer.facts import ObservedFacts
from trionode.observer.reading import Reader
from trionode.observer.sources import Source
from trionode.observer.votes import agreed_specs, shared
from trionode.registry.changes import ClearCurrent, PutCurrent
from trionode.registry.rows import CurrentSpec
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.sync.source import SourceError
from trionode.wire.jsjson import parse, stringify

log = get_logger("observer")


class Specs:
    """Service "specifications"; fills `store`, which holds nothing else."""

    name = "specifications"

    def __init__(
        self,
        settings: ObserverSettings,
        facts: ObservedFacts,
        store: MemoryRegistryStore,
        reader: Reader,
        bus: EventBus,
        counters: Counters,
    ) -> None:
        self._settings = settings
        self._facts = facts
        self._store = store
        self._reader = reader
        self._bus = bus
        self._counters = counters
        self._kept: dict[str, tuple[str, tuple[ToldSpec, ...]]] = {}
        self.told_by = 0
        self.count = 0
        self.agreed_s: float | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read again and again until cancelled; without a majority, after the next round of sources."""
        with self._bus.subscribe("observer:round", buffer=1) as rounds:
            task_status.started()
            await self._facts.first_round.wait()
            while True:
                if self._facts.daemon_reachable and await self.load():
                    await trio.sleep(self._settings.spec_interval_s)
                else:
                    await rounds.receive()

    async def load(self) -> bool:
        """Ask all sources and count; True when there was a majority."""
        ballots: dict[str, tuple[ToldSpec, ...]] = {}

        async def ask(source: Source) -> None:
            try:
                ballots[source.key] = await self._ask(source)
            except SourceError as error:
                self._counters.add("observer.failed")
                log.info("a source told no specifications", source=source.key, reason=error.message)

        async with trio.open_nursery() as nursery:
            for source in self._facts.book:
                nursery.start_soon(ask, source)
        ballots, rows = await count(_counted, ballots)
        self.told_by = len(ballots)
        # Lists of those who are not asked any more are forgotten.
        self._kept = {key: (self._kept[key][0], told) for key, told in ballots.items()}
        if rows is None:
            return False
        self._store.commit_now([ClearCurrent(), *(PutCurrent(row) for row in rows)])
        self.count = len(rows)
        self.agreed_s = trio.current_time()
        self._bus.publish("observer:specifications", {"sources": self.told_by, "count": self.count})
        return True

    async def _ask(self, source: Source) -> tuple[ToldSpec, ...]:
        settings = self._settings
        etag, kept = self._kept.get(source.key, ("", ()))
        reading = await self._reader.long(
            source.ip,
            source.port,
            SPECS_PATH,
            read_specs,
            etag=etag,
            limit_s=settings.list_limit_s,
            limit_bytes=settings.list_limit_bytes,
        )
        told = kept if reading.value is None else reading.value
        self._kept[source.key] = (reading.etag, told)
        return told


def _counted(
    ballots: Mapping[str, Sequence[ToldSpec]],
) -> tuple[dict[str, tuple[ToldSpec, ...]], list[CurrentSpec] | None]:
    kept = shared(ballots)
    agreed = agreed_specs(kept)
    if agreed is None:
        return kept, None
    return kept, [row for spec in agreed if (row := _row(spec)) is not None]


def _row(spec: ToldSpec) -> CurrentSpec | None:
    """A told document as a row: the specification in its own order of members, hash and height apart."""
    try:
        document = parse(spec.text.decode())
    except (WireError, UnicodeDecodeError):
        return None
    if not isinstance(document, dict):
        return None
    hash_, height = document.pop("hash"), document.pop("height")
    if not isinstance(height, int | float):
        return None
    return CurrentSpec(spec.name, stringify(document), str(hash_), int(height))
