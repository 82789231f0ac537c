"""Locations over HTTP, for the time until signed messages have come in (docs/observer.md).

Every node announces itself once an hour, so without this an observer would be blind at first. The lists
of all sources are counted; what a majority tells is shown as unverified, and with too few sources whatever
anybody told. Read again when a majority can be had for the first time, and after a time without links.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from trionode.appstate.source import Source as SignedSource
from trionode.config.observer import ObserverSettings
from trionode.observer.answers import LOCATIONS_PATH, ToldLocation, read_locations
from trionode.observer.counting import count
from trionode.observer.facts import ObservedFacts
from trionode.observer.reading import Reader
from trionode.observer.sources import Source
from trionode.observer.unverified import Unverified
from trionode.observer.votes import agreed_locations
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.sync.source import SourceError

log = get_logger("observer")

SLICE_ROWS = 1000
LOOK_S = 15.0
"""How often rows are looked through for expiry, and links for a gap; both may be this late."""


class Bootstrap:
    """Service "locations". `signed(ip)`: the signed facts of an address; `links()`: how many there are."""

    name = "locations"

    def __init__(
        self,
        settings: ObserverSettings,
        facts: ObservedFacts,
        unverified: Unverified,
        reader: Reader,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        *,
        signed: Callable[[str], SignedSource | None],
        links: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._facts = facts
        self._unverified = unverified
        self._reader = reader
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._signed = signed
        self._links = links
        self.told_by = 0
        """How many sources told their locations the last time."""
        self.by_majority = False
        self.loaded_s: float | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled. Ready at once: an observer without locations says so."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load_when_needed, name="reading of locations")
            nursery.start_soon(self._follow_list, name="node list watch")
            nursery.start_soon(self._expire, name="expiry of unverified rows")
            task_status.started()

    async def load(self) -> int:
        """Read the locations of all sources and take over what counts; how many sources told."""
        ballots: dict[str, tuple[ToldLocation, ...]] = {}

        async def ask(source: Source) -> None:
            try:
                ballots[source.key] = await self._ask(source)
            except SourceError as error:
                self._counters.add("observer.failed")
                log.info("a source told no locations", source=source.key, reason=error.message)

        async with trio.open_nursery() as nursery:
            for source in self._facts.book:
                nursery.start_soon(ask, source)
        if not ballots:
            return 0
        vote = await count(agreed_locations, ballots)
        nodes = self._facts.nodes
        rows = [row for row in vote.rows if not len(nodes) or nodes.by_address(row[0].ip) is not None]
        taken = await self._take(rows, vote.answered)
        self.told_by, self.by_majority = vote.answered, vote.by_majority
        self.loaded_s = trio.current_time()
        told = {"sources": vote.answered, "byMajority": vote.by_majority, "unverified": len(self._unverified)}
        self._bus.publish("observer:locations", told)
        log.info(
            "locations read over HTTP, unverified until signed",
            rows=taken,
            sources=vote.answered,
            by_majority=vote.by_majority,
        )
        return vote.answered

    async def _take(self, rows: Sequence[tuple[ToldLocation, int]], asked: int) -> int:
        """Take rows over in slices, so that links need not wait."""
        taken = 0
        for start in range(0, len(rows), SLICE_ROWS):
            await trio.lowlevel.checkpoint()
            piece = rows[start : start + SLICE_ROWS]
            taken += self._unverified.put(piece, asked, self._clock.now_ms(), self._signed)
        return taken

    async def _ask(self, source: Source) -> tuple[ToldLocation, ...]:
        settings = self._settings
        reading = await self._reader.long(
            source.ip,
            source.port,
            LOCATIONS_PATH,
            read_locations,
            limit_s=settings.list_limit_s,
            limit_bytes=settings.list_limit_bytes,
        )
        rows: tuple[ToldLocation, ...] = reading.value
        return rows

    async def _load_when_needed(self) -> None:
        with self._bus.subscribe("observer:round", buffer=1) as rounds:
            await self._facts.first_round.wait()
            while True:
                if self._is_wanted():
                    await self.load()
                await rounds.receive()

    def _is_wanted(self) -> bool:
        return self.loaded_s is None or (not self.by_majority and bool(self._facts.daemon_reachable))

    async def _follow_list(self) -> None:
        """What is no node has no locations."""
        with self._bus.subscribe("chain:nodes", buffer=1) as lists:
            async for _ in lists:
                nodes = self._facts.nodes
                self._unverified.keep_only(lambda ip, nodes=nodes: nodes.by_address(ip) is not None)  # type: ignore[misc]

    async def _expire(self) -> None:
        """Let rows expire, and read again after a gap in which messages may have been missed."""
        linked_s = trio.current_time()
        while True:
            await trio.sleep(LOOK_S)
            self._unverified.advance(self._clock.now_ms())
            now_s = trio.current_time()
            if not self._links():
                continue
            had_gap = now_s - linked_s > self._settings.reload_after_s
            linked_s = now_s
            if (
                had_gap
                and self.loaded_s is not None
                and self.loaded_s < now_s - self._settings.reload_after_s
            ):
                await self.load()
