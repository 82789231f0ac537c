"""ObservedFacts: node list and height of the chain by the majority of several nodes (docs/observer.md).

The `NetworkFacts` of an observer's links and the `ChainPort` of its API. One round asks all sources at
the same time, each after a short random pause; whoever fails is replaced within the round while there are
others. Without three answers nothing is agreed: what was agreed before stays, with its age.
Published: `chain:nodes`, `chain:height`, `observer:round` after each reading of the node list, and
`observer:disagreement` whenever a source begins to differ, or differs in another number of rows.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import trio

from trionode.config.observer import ObserverSettings
from trionode.observer.answers import CHAIN_PATH, NODES_PATH, read_height, read_nodes
from trionode.observer.counting import count
from trionode.observer.reading import Reader
from trionode.observer.sources import Source, SourceBook
from trionode.observer.votes import (
    LEAST_SOURCES,
    NodeVote,
    agreed_height,
    agreed_nodes,
    majority_of,
    shared,
)
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger
from trionode.sync.source import SourceError
from trionode.wire.nodelist import NodeEntry, NodeList

log = get_logger("observer")

HEIGHT_FRESH_S = 300.0
TIP_BLOCKS = 5
FAR_BLOCKS = 5
"""A source further than this from the agreed height disagrees; fewer blocks are the time of travel."""
SPREAD_S = 2.0
"""Sources of one round are asked within this time."""
MAX_WAVES = 4
"""How often within a round others are asked in the place of those who failed."""
MAX_RETRY_FACTOR = 20


class ObservedFacts:
    """Present facts as plain properties, kept current by `run`; service name "sources"."""

    name = "sources"

    def __init__(
        self,
        settings: ObserverSettings,
        book: SourceBook,
        reader: Reader,
        bus: EventBus,
        counters: Counters,
        rng: random.Random,
        *,
        address: str = "",
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._bus = bus
        self._counters = counters
        self._rng = rng
        self._retry_factor = 1
        self.book = book
        self.own_address: str | None = address or None
        self.nodes = NodeList()
        self.nodes_agreed_s: float | None = None
        self.height = 0
        self.headers = 0
        self.height_agreed_s: float | None = None
        self.answered = 0
        """Sources that told their node list in the last round."""
        self.heights_told = 0
        self.rounds = 0
        self.first_round = Gate()

    # --- as links and API see it ------------------------------------------------------------

    @property
    def synced(self) -> bool:
        """A majority told lately that the chain is at its tip."""
        agreed_s = self.height_agreed_s
        fresh = agreed_s is not None and trio.current_time() - agreed_s <= HEIGHT_FRESH_S
        return fresh and self.height > self.headers - TIP_BLOCKS

    @property
    def confirmed(self) -> bool:
        """Never: an observer is no node of the chain."""
        return False

    @property
    def can_send(self) -> bool:
        return False

    @property
    def daemon_reachable(self) -> bool | None:
        """Whether the last round had a majority; None before the first one ended."""
        return None if not self.rounds else majority_of(self.answered) > 0

    @property
    def last_error(self) -> str | None:
        """Why there was no majority in the last round."""
        if self.daemon_reachable is not False:
            return None
        return f"{self.answered} of {len(self.book)} sources answered, at least {LEAST_SOURCES} are needed"

    # --- the service ------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask until cancelled. Ready at once: what is not known yet is said to be unknown."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_nodes, name="node list")
            nursery.start_soon(self._follow_height, name="height")
            task_status.started()

    async def _follow_nodes(self) -> None:
        while True:
            agreed = await self.nodes_round()
            if agreed:
                self._retry_factor = 1
                await trio.sleep(self._paused(self._settings.node_list_interval_s))
            else:
                pause_s = self._settings.retry_s * self._retry_factor
                self._retry_factor = min(self._retry_factor * 2, MAX_RETRY_FACTOR)
                await trio.sleep(self._paused(min(pause_s, self._settings.node_list_interval_s)))

    async def _follow_height(self) -> None:
        await self.first_round.wait()
        while True:
            await trio.sleep(self._paused(self._settings.height_interval_s))
            await self._ask_all(self.book, self._ask_height)
            self._count_heights()

    def _paused(self, interval_s: float) -> float:
        return interval_s * (1 + self._settings.jitter * self._rng.random())

    async def nodes_round(self) -> bool:
        """Read the node list of all sources and count; True when a majority could be had."""
        new = self.book.fill(await self._candidates(), trio.current_time(), least=LEAST_SOURCES)
        asked: Iterable[Source] = self.book
        for _ in range(MAX_WAVES):
            await self._ask_all(asked, self._ask_both)
            self._drop_strangers_that_failed(new)
            asked = new = self.book.fill(await self._candidates(), trio.current_time())
            if not new:
                break
        vote = await self._vote()
        self._count_heights()
        self._count_nodes(vote, len(self._ballots()))
        return vote is not None

    def _ballots(self) -> dict[str, tuple[NodeEntry, ...]]:
        """What was told in the present round."""
        return {source.key: source.entries for source in self.book if source.told_in_round == self.rounds}

    async def _vote(self) -> NodeVote | None:
        ballots, vote = await count(_counted, self._ballots())
        for source in self.book:
            source.entries = ballots.get(source.key, source.entries)
        return vote

    def _drop_strangers_that_failed(self, new: Iterable[Source]) -> None:
        """A node just picked from a list that does not even answer once is not worth waiting for."""
        for source in new:
            if source.failures and not source.is_seed:
                self.book.drop(source, trio.current_time())

    async def _candidates(self) -> list[str]:
        """Addresses that may be asked: those agreed on; before that equally many of each list told."""
        if len(self.nodes):
            return self.nodes.addresses()
        if not self.book.has_room:
            return []
        vote = await self._vote()
        if vote is not None:
            return [entry.ip for entry in vote.entries]
        told = self._ballots().values()
        size = min((len(entries) for entries in told), default=0)
        return [entry.ip for entries in told for entry in self._rng.sample(entries, size) if entry.ip]

    async def _ask_all(self, sources: Iterable[Source], ask: Callable[[Source], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            for source in sources:
                nursery.start_soon(self._ask_later, source, ask)

    async def _ask_later(self, source: Source, ask: Callable[[Source], Awaitable[None]]) -> None:
        await trio.sleep(SPREAD_S * self._rng.random() if self.rounds else 0)
        try:
            await ask(source)
        except SourceError as error:
            self._counters.add("observer.failed")
            source.failed(error.message)
        else:
            source.answered(trio.current_time())

    async def _ask_height(self, source: Source) -> None:
        source.height = None
        limit_s = self._settings.answer_limit_s
        source.height = await self._reader.short(source.ip, source.port, CHAIN_PATH, read_height, limit_s)

    async def _ask_both(self, source: Source) -> None:
        await self._ask_height(source)
        settings = self._settings
        reading = await self._reader.long(
            source.ip,
            source.port,
            NODES_PATH,
            read_nodes,
            etag=source.etag,
            limit_s=settings.list_limit_s,
            limit_bytes=settings.list_limit_bytes,
        )
        if reading.value is not None:
            source.entries = reading.value
            source.etag = reading.etag
        source.told_in_round = self.rounds

    # --- counting ---------------------------------------------------------------------------

    def _count_heights(self) -> None:
        told = [source.height for source in self.book if source.height is not None]
        self.heights_told = len(told)
        blocks = agreed_height([height.blocks for height in told])
        headers = agreed_height([height.headers for height in told])
        if blocks is None or headers is None:
            return
        self.height_agreed_s = trio.current_time()
        self.headers = max(headers, blocks)
        if blocks != self.height:
            self.height = blocks
            self._bus.publish("chain:height", {"height": blocks})
        self._bus.publish("daemon:polled", {"height": blocks, "headers": self.headers})
        for source in self.book:
            self._look_at_height(source, blocks)

    def _look_at_height(self, source: Source, agreed: int) -> None:
        told, was_far = source.height, source.is_far
        source.is_far = told is not None and abs(told.blocks - agreed) > FAR_BLOCKS
        if source.is_far and not was_far and told is not None:
            data = {"source": source.key, "about": "height", "told": told.blocks, "agreed": agreed}
            self._tell_disagreement(data)

    def _count_nodes(self, vote: NodeVote | None, answered: int) -> None:
        self.answered = answered
        self.rounds += 1
        if vote is not None:
            dissents = {dissent.source: dissent for dissent in vote.dissents}
            for source in self.book:
                before, source.dissent = source.dissent, dissents.get(source.key)
                if source.dissent is not None and (before is None or before.rows != source.dissent.rows):
                    self._tell_dissent(source)
            if vote.entries:
                self.nodes = NodeList(vote.entries)
                self.nodes_agreed_s = trio.current_time()
                self._bus.publish("chain:nodes", {"count": len(self.nodes)})
        for source in self.book.weed(len(self.nodes), trio.current_time()):
            log.info("source replaced", source=source.key, reason=source.last_error or "outvoted")
        self._tell_round(vote)
        self.first_round.open()

    def _tell_dissent(self, source: Source) -> None:
        dissent = source.dissent
        if dissent is None:
            return
        self._tell_disagreement(
            {
                "source": source.key,
                "about": "nodes",
                "missing": dissent.missing,
                "extra": dissent.extra,
                "sample": list(dissent.sample),
            },
        )

    def _tell_disagreement(self, data: dict[str, Any]) -> None:
        self._counters.add("observer.disagreements")
        self._bus.publish("observer:disagreement", data)
        log.info("a source disagrees", **{name: value for name, value in data.items() if name != "sample"})

    def _tell_round(self, vote: NodeVote | None) -> None:
        self._bus.publish(
            "observer:round",
            {
                "answered": self.answered,
                "asked": len(self.book),
                "agreed": vote is not None,
                "nodes": len(self.nodes),
                "height": self.height,
            },
        )
        if vote is None:
            log.warning(
                "no majority: node list and height are not known for sure",
                answered=self.answered,
                needed=LEAST_SOURCES,
                remedy="name more seeds",
            )
        elif self.rounds == 1:
            log.info("sources agree", answered=self.answered, nodes=len(self.nodes), height=self.height)


def _counted(
    ballots: Mapping[str, Sequence[NodeEntry]],
) -> tuple[dict[str, tuple[NodeEntry, ...]], NodeVote | None]:
    kept = shared(ballots)
    return kept, agreed_nodes(kept)
