"""The announcer: tells the network what runs here (docs/spec/events.md §9, wire.md §10).

Once both start gates have opened (the network is there, the boot decision is carried out) it sends one
`fluxapprunning` v2 per interval (measured from the end of a cycle), at once when an app appears or
changes, and when the message capability is regained; a cycle without the capability says nothing. What
was told while there was no link is told again with the first one: a node that was not confirmed regains
its right to speak before its links. An app that is gone is told by `fluxappremoved`. Own messages are
applied to the own event log with their signature. An empty v2 is never sent (differences.md).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import Protocol

import trio

from trionode.config.tree import AppStateSettings
from trionode.errors import TrionodeError
from trionode.hosting.ownmessages import Broadcaster, OwnLog, OwnMessages
from trionode.hosting.port import APPS_CHANGED, RunningApp, RunningApps
from trionode.runtime.bus import Event, EventBus, Subscription
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

CAPABILITY = "chain:capability"
LINK_ADDED = "peers:added"
WAKERS = (CAPABILITY, "chain:address", LINK_ADDED, APPS_CHANGED)
RETRY_S = 60.0
"""After a failed cycle the next one comes this soon (scaled), not only after the whole interval."""

log = get_logger("hosting.announcer")


class SenderFacts(Protocol):
    """What the announcer must know from the chain."""

    @property
    def own_address(self) -> str | None: ...
    @property
    def can_send(self) -> bool: ...


class Announcer:
    """Service "announcer".

    `start`: opens when node list and peers are first there (`Orchestrator.first_broadcast`);
    `boot_settled`: opens when the boot decision is carried out, so that no app is announced which is
    about to be removed. `uptime_s`: the machine's uptime. `known_names(address)`: names the own log lists
    there, so that after a restart the apps that are gone are told too. `links`: how many peers there are.
    `static_ip`: whether the own address is known to be a static one.
    """

    name = "announcer"

    def __init__(
        self,
        settings: AppStateSettings,
        apps: RunningApps,
        facts: SenderFacts,
        broadcaster: Broadcaster,
        own_log: OwnLog,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        *,
        start: Gate,
        boot_settled: Gate,
        uptime_s: Callable[[], float],
        links: Callable[[], int] = lambda: 1,
        known_names: Callable[[str], Iterable[str]] = lambda address: (),
        static_ip: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._apps = apps
        self._facts = facts
        self._messages = OwnMessages(
            "announcer", broadcaster, own_log, counters, clock, max_future_ms=settings.max_future_ms
        )
        self._bus = bus
        self._counters = counters
        self._start = start
        self._boot_settled = boot_settled
        self._uptime_s = uptime_s
        self._links = links
        self._known_names = known_names
        self._static_ip = static_ip
        self._address: str | None = None
        self._announced: dict[str, RunningApp | None] = {}
        self._stopped: dict[str, None] = {}
        """Announced before, still installed, not running: a removal begins like that."""
        self._since_ms: dict[str, int] = {}
        self._hushed = False
        self._unheard = False
        self._removed_unheard: dict[str, None] = {}
        self.last_announced_ms: int | None = None

    @property
    def announced(self) -> tuple[str, ...]:
        """Names of the apps the network was last told to run here."""
        return tuple(self._announced)

    def hush(self) -> None:
        """Say nothing more: the node is leaving, and what it says now would bring its apps back."""
        self._hushed = True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Wait for both gates, then announce until cancelled."""
        task_status.started()
        await self._start.wait()
        await self._boot_settled.wait()
        with self._bus.subscribe(*WAKERS) as events:
            while True:
                pause_s = await self._cycle()
                await self._pause(events, trio.current_time() + pause_s)

    async def _pause(self, events: Subscription, until_s: float) -> None:
        """Return at `until_s`, or earlier when something happened that must be told.

        What happened during a cycle waits in the subscription: however much it was, one more
        cycle tells it all and finds nothing left to tell afterwards.
        """
        with trio.move_on_at(until_s):
            while True:
                if self._is_news(await events.receive()):
                    return

    def _is_news(self, event: Event) -> bool:
        if event.name == LINK_ADDED:
            return self._unheard
        regained = event.name == CAPABILITY and bool(event.data.get("capable"))
        return regained or self._differs()

    def _differs(self) -> bool:
        apps = self._wanted()
        if apps is None or not self._facts.can_send or self._facts.own_address is None:
            return False
        if self._facts.own_address != self._address or {app.name: app for app in apps} != self._announced:
            return True
        return not self._stopped.keys() <= self._apps.names()

    async def _cycle(self) -> float:
        """Tell what is to be told; seconds until the next cycle."""
        scale = self._settings.time_scale
        try:
            await self._tell()
        except TrionodeError as error:
            self._counters.add("announcer.failed")
            log.error("announcement failed", problem=error.message, remedy=error.remedy)
            return min(RETRY_S, self._settings.announce_interval_s) * scale
        return self._settings.announce_interval_s * scale

    async def _tell(self) -> None:
        address, apps = self._facts.own_address, self._wanted()
        if self._hushed or not self._facts.can_send or address is None or apps is None:
            self._counters.add("announcer.skipped")
            return
        if address != self._address:
            self._address = address
            self._announced = dict.fromkeys(self._known_names(address))
            self._removed_unheard.clear()
            self._stopped.clear()
        self._unheard = not self._links()
        running, here = {app.name for app in apps}, self._apps.names()
        again, self._removed_unheard = self._removed_unheard, {}
        for name in [name for name in again if name not in here]:
            await self._tell_removed(name, address)
        for name in [name for name in self._announced if name not in running]:
            if name in here:
                del self._announced[name]  # stopped, not removed: told again when it runs
                self._stopped[name] = None
            else:
                await self._tell_removed(name, address)
        for name in [name for name in self._stopped if name in running or name not in here]:
            if name not in here:
                await self._tell_removed(name, address)
            self._stopped.pop(name, None)
        if apps:
            await self._tell_running(apps, address)

    def _wanted(self) -> tuple[RunningApp, ...] | None:
        """The apps to announce: no more than peers accept of one node."""
        apps, limit = self._apps.apps(), self._settings.max_apps_per_node
        if apps is not None and len(apps) > limit:
            self._counters.add("announcer.too_many_apps")
            return apps[:limit]
        return apps

    async def _tell_running(self, apps: tuple[RunningApp, ...], address: str) -> None:
        stamp_ms = self._messages.stamp_ms()
        entries = [self._entry(app, stamp_ms) for app in apps]
        await self._messages.send(
            {
                "type": "fluxapprunning",
                "version": 2,
                "apps": entries,
                "ip": address,
                "broadcastedAt": stamp_ms,
                "osUptime": self._uptime_s(),
                "staticIp": self._static_ip(),
            }
        )
        self._announced = {app.name: app for app in apps}
        self.last_announced_ms = stamp_ms
        self._counters.add("announcer.announced")
        self._bus.publish("app:running", {"apps": entries, "ip": address})

    async def _tell_removed(self, name: str, address: str) -> None:
        await self._messages.send(
            {
                "type": "fluxappremoved",
                "version": 1,
                "appName": name,
                "ip": address,
                "broadcastedAt": self._messages.stamp_ms(),
            }
        )
        self._announced.pop(name, None)
        self._since_ms.pop(name, None)
        if self._unheard:
            self._removed_unheard[name] = None
        self._counters.add("announcer.removed")

    def _entry(self, app: RunningApp, now_ms: int) -> dict[str, str]:
        since_ms = app.running_since_ms
        if since_ms is None:
            since_ms = self._since_ms.setdefault(app.name, now_ms)
        return {"name": app.name, "hash": app.hash, "runningSince": iso_ms(since_ms)}


def iso_ms(ms: int) -> str:
    """Unix milliseconds as JavaScript writes a date: `2026-01-31T12:00:00.000Z`."""
    moment = datetime.datetime.fromtimestamp(ms // 1000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"
