"""The events of one node, read from its stream without a gap (docs/spec/testnet.md §6, §9 item 1).

Waiting always names the id after which an event counts, so that an old one is never taken for the news.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio

from network.http import Caller, Unanswered

RECONNECT_PAUSE_S = 0.1
GAP = "stream:gap"


class Event(msgspec.Struct, frozen=True):
    """One event; ids count from 1 in every run of the node."""

    id: int
    name: str
    data: Mapping[str, Any]


Wanted = Callable[[Mapping[str, Any]], bool]


class EventReader:
    """Follows one node, reconnecting with `Last-Event-ID`; a restart of the node makes it begin anew."""

    def __init__(self, caller: Caller, ip: str, port: int) -> None:
        self._caller = caller
        self._address = (ip, port)
        self._events: list[Event] = []
        self._last = 0
        self._lost = 0
        self._run = 0
        self._news = trio.Event()
        self._stream = trio.CancelScope()

    @property
    def recent(self) -> list[Event]:
        """What was read since the reader began or the node was started again."""
        return self._events

    def restart(self) -> None:
        """The node is (being) started again: its ids count from 1."""
        self._events.clear()
        self._last = 0
        # What was on its way from the run before may still wake the reader before the cancellation does.
        self._run += 1
        self._stream.cancel(reason="the node was restarted")

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            with trio.CancelScope() as self._stream:
                try:
                    await self._read()
                except Unanswered:
                    await trio.sleep(RECONNECT_PAUSE_S)

    async def _read(self) -> None:
        run = self._run
        headers = {"Last-Event-ID": str(self._last), "Accept": "text/event-stream"}
        path = "/flux/eventstream"
        async with self._caller.streamed(*self._address, "GET", path, headers=headers) as (status, chunks):
            if status == 404:
                raise AssertionError(f"{self._address[0]} has no event stream: HTTP {status}")
            if status != 200:
                raise Unanswered(f"{self._address[0]} starts or stops: HTTP {status}")
            waiting = b""
            async for chunk in chunks:
                *records, waiting = (waiting + chunk).split(b"\n\n")
                if run != self._run:
                    return
                for record in records:
                    self._take(record.decode())
        raise Unanswered("the stream ended")

    def _take(self, record: str) -> None:
        fields = dict(line.split(": ", 1) for line in record.split("\n") if not line.startswith(":") and line)
        if not fields:
            return
        data = json.loads(fields["data"])
        if fields["event"] == GAP:
            self._lost += data["lost"]
        else:
            self._last = int(fields["id"])
            self._events.append(Event(self._last, fields["event"], data))
        self._news.set()
        self._news = trio.Event()

    async def news(self) -> None:
        """Wait for the next event of any name."""
        await self._news.wait()

    async def event(self, name: str, *, after: int, where: Wanted | None = None) -> Event:
        """The first event of that name behind `after` for which `where` holds; waits for it."""
        await trio.lowlevel.checkpoint()
        position = 0
        while True:
            assert not self._lost, f"{self._lost} events of {self._address[0]} were lost"
            position = min(position, len(self._events))
            for event in self._events[position:]:
                if event.id > after and event.name == name and (where is None or where(event.data)):
                    return event
            position = len(self._events)
            await self._news.wait()

    def between(self, after: int, until: int, *names: str) -> list[Event]:
        """What was read with these names and with `after` < id <= `until`."""
        return [event for event in self._events if after < event.id <= until and event.name in names]
