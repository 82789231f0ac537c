"""The eviction sweep: nodes that left the list lose their locations (docs/spec/events.md §8, §13.12).

A false eviction costs a healthy node its traffic until its next announcement, and spreads by sync; a
missed one costs others some minutes more of a dead address. So a sweep acts only on what it is sure of:

- the node list was fetched for this very sweep, from a daemon that is synced, and has ourselves in it;
- the own network is sound, before and after the questions;
- silence counts only if a listed node answered our questions at the same time;
- more suspects than single departures explain are believed at the second sweep in a row.

A node whose key the list does not have any more is gone whatever it says of itself; nobody could verify
a message of it. One whose key is listed at another address is asked: it may just be moving.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import trio

from trionode.appstate.decision import Decision
from trionode.appstate.documents import EventRow
from trionode.appstate.index import LocationIndex
from trionode.config.tree import MonitorSettings
from trionode.errors import WireError
from trionode.lifecycle.monitors import (
    LEFT,
    OWN_OUTAGE,
    Suspect,
    Verdict,
    Word,
    is_mass_departure,
    suspects,
    verdict,
)
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.address import split_address
from trionode.wire.nodelist import NodeList

SLICE_ADDRESSES = 1000
CONTROLS = 3
"""Listed nodes asked beside the suspects: one that answers proves that our questions get out."""

log = get_logger("hosting.sweep")


class NodeProbe(Protocol):
    """Asks a node over HTTP how it stands with the chain."""

    async def word_of(self, ip: str, port: int) -> Word:
        """What `/daemon/getfluxnodestatus` of the node says; never raises for what the other side does."""
        ...


class EventStore(Protocol):
    """The stored events."""

    async def events_for(self, *, ip: str | None = None, name: str | None = None) -> Sequence[EventRow]: ...


class EvictingLog(Protocol):
    """What a sweep needs of the event log (`store.eventlog.EventLog`)."""

    @property
    def index(self) -> LocationIndex: ...
    @property
    def store(self) -> EventStore: ...

    async def evict(self, ip: str) -> Decision: ...


class ListFacts(Protocol):
    """What a sweep needs of the chain (`chain.facts.ChainFacts`)."""

    @property
    def synced(self) -> bool: ...
    @property
    def can_send(self) -> bool: ...
    @property
    def own_address(self) -> str | None: ...
    @property
    def nodes(self) -> NodeList: ...

    async def refresh_nodes(self) -> bool: ...


class SweepReport(msgspec.Struct, frozen=True):
    """What a sweep found and did. `skipped`: why it did nothing at all."""

    suspects: int = 0
    evicted: tuple[str, ...] = ()
    kept: tuple[tuple[str, str], ...] = ()
    """(address, why) of suspects that stay."""
    skipped: str = ""


class Sweep:
    """Runs sweeps one at a time. `is_sound`: whether the own network can be trusted right now."""

    def __init__(
        self,
        settings: MonitorSettings,
        *,
        facts: ListFacts,
        log: EvictingLog,
        probe: NodeProbe,
        is_sound: Callable[[], bool],
        counters: Counters,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._facts = facts
        self._log = log
        self._probe = probe
        self._is_sound = is_sound
        self._counters = counters
        self._rng = rng
        self._mass_before = False
        self._skipped_before = ""

    async def run(self) -> SweepReport:
        """One sweep. Raises StoreError."""
        report = await self._sweep()
        if report.skipped:
            self._counters.add("sweep.skipped")
            if report.skipped != self._skipped_before:
                log.info("sweep skipped", because=report.skipped, suspects=report.suspects)
        self._skipped_before = report.skipped
        self._counters.add("sweep.evicted", len(report.evicted))
        self._counters.add("sweep.kept", len(report.kept))
        return report

    async def _sweep(self) -> SweepReport:
        problem = await self._list_problem()
        if problem:
            return SweepReport(skipped=problem)
        addresses = self._log.index.addresses()
        found = await self._suspects(addresses)
        mass, mass_before = is_mass_departure(len(found), len(addresses)), self._mass_before
        self._mass_before = mass
        if mass and not mass_before:
            return SweepReport(
                len(found), skipped=f"{len(found)} of {len(addresses)} addresses are not in the node list"
            )
        verdicts = await self._judge(found)
        if not self._is_sound():
            return SweepReport(len(found), skipped="the own network broke down meanwhile")
        return await self._carry_out(found, verdicts)

    async def _suspects(self, addresses: Sequence[str]) -> list[Suspect]:
        """In slices: there are thousands of addresses, and other tasks have work to do."""
        nodes, own, index = self._facts.nodes, self._facts.own_address, self._log.index
        found: list[Suspect] = []
        for start in range(0, len(addresses), SLICE_ADDRESSES):
            rows = (
                (source, [row.ip for row in index.locations(ip=source)])
                for source in addresses[start : start + SLICE_ADDRESSES]
            )
            found += suspects(rows, nodes, own)
            await trio.lowlevel.checkpoint()
        return found

    async def _list_problem(self) -> str:
        """Why the node list is no ground to evict anybody now; empty when it is one."""
        facts = self._facts
        if not self._is_sound():
            return "the own network is not sound"
        if not facts.synced:
            return "the daemon is not synced"
        if not await facts.refresh_nodes():
            return "the node list could not be fetched"
        if not facts.can_send:
            return "the node list does not have this node"
        return ""

    async def _judge(self, found: list[Suspect]) -> list[Verdict]:
        """A verdict for each suspect, at most `node_probe_limit` questions at a time."""
        verdicts = [LEFT if await self._left_the_chain(suspect) else OWN_OUTAGE for suspect in found]
        asked: list[tuple[int, Word]] = []
        limit = trio.CapacityLimiter(self._settings.node_probe_limit)

        async def ask(place: int, address: str) -> None:
            async with limit:
                asked.append((place, await self._ask(address)))

        async with trio.open_nursery() as nursery:
            for place, suspect in enumerate(found):
                if verdicts[place] is not LEFT:
                    nursery.start_soon(ask, place, suspect.address)
        words = {word for _, word in asked}
        outward_works = words != {Word.SILENT} or await self._gets_out(limit)
        for place, word in asked:
            verdicts[place] = verdict(word, outward_works=outward_works)
        return verdicts

    async def _left_the_chain(self, suspect: Suspect) -> bool:
        """The key that signed its newest record is in the list at no address at all."""
        events = await self._log.store.events_for(ip=suspect.source)
        signed = [event for event in events if event.signed is not None]
        if not signed:
            return False
        newest = max(signed, key=lambda event: event.at_ms)
        return newest.signed is not None and not self._facts.nodes.has_pubkey(newest.signed.pub_key)

    async def _ask(self, address: str) -> Word:
        try:
            ip, port = split_address(address)
        except WireError:
            return Word.OTHER  # nobody can be there
        with trio.move_on_after(self._settings.check_cancel_s):
            return await self._probe.word_of(ip, port)
        return Word.SILENT

    async def _gets_out(self, limit: trio.CapacityLimiter) -> bool:
        """Whether one of a few listed nodes answers."""
        own = self._facts.own_address
        others = [address for address in self._facts.nodes.addresses() if address != own]
        answered = False

        async def ask(address: str) -> None:
            nonlocal answered
            async with limit:
                if await self._ask(address) is not Word.SILENT:
                    answered = True
                    nursery.cancel_scope.cancel(reason="one answer is enough")

        async with trio.open_nursery() as nursery:
            for address in self._rng.sample(others, min(CONTROLS, len(others))):
                nursery.start_soon(ask, address)
        return answered

    async def _carry_out(self, found: list[Suspect], verdicts: list[Verdict]) -> SweepReport:
        evicted: list[str] = []
        kept: list[tuple[str, str]] = []
        for suspect, decided in zip(found, verdicts, strict=True):
            # It may have come back while others were asked.
            if self._facts.nodes.by_address(suspect.address) is not None:
                kept.append((suspect.address, "listed again"))
            elif decided.evict:
                await self._log.evict(suspect.source)
                if suspect.address != suspect.source:
                    await self._log.evict(suspect.address)
                evicted.append(suspect.address)
                log.info("node evicted", address=suspect.address, because=decided.reason)
            else:
                kept.append((suspect.address, decided.reason))
        return SweepReport(len(found), tuple(evicted), tuple(kept))
