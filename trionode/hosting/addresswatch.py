"""When the public address of this node changes (docs/spec/events.md §9 "ipchanged", lifecycle.md §10).

The benchmark daemon tells the address; the last one is kept in the store, so that a change during a
restart counts too. The change goes into the own log at once and to the network as soon as links are
alive under the new address, signed with the key that the list still has at the old one. Apps that need a
static address, or that run at the new one already, go; the others are restarted. A second change within
20 h costs the node its apps, and a penalty that grows until the window is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
import trio

from trionode.appstate.decision import Decision
from trionode.appstate.index import LocationIndex
from trionode.config.tree import MonitorSettings
from trionode.errors import StoreError, TrionodeError
from trionode.hosting.port import AppHost
from trionode.hosting.removal import AppRemoval
from trionode.lifecycle.dos import ADDRESS_UNSTEADY, grown, message_of
from trionode.lifecycle.names import container_name
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import DosState
from trionode.runtime.logs import get_logger
from trionode.wire.address import same_address
from trionode.wire.envelope import Envelope
from trionode.wire.nodelist import NodeList

META_KEY = "ownAddress"
ENGINE_LIMIT_S = 60.0
"""An engine that takes longer than this for one container is not waited for."""
LINKS_WANTED = 3
LINKS_WAIT_S = 300.0
LINKS_LOOK_S = 15.0
"""The news wait for this many links that live under the new address, and not longer than this."""

log = get_logger("hosting.addresswatch")


class AddressBook(msgspec.Struct, frozen=True):
    """What is remembered: the last known address, and when (ms) it changed."""

    address: str = ""
    changed_ms: tuple[int, ...] = ()


class AddressFacts(Protocol):
    """What the watch must know from the chain (`chain.facts.ChainFacts`)."""

    @property
    def own_address(self) -> str | None: ...
    @property
    def nodes(self) -> NodeList: ...


class AddressStore(Protocol):
    """Named values of the store."""

    async def get_meta(self, key: str) -> str | None: ...
    async def put_meta(self, key: str, value: str) -> None: ...


class OwnLog(Protocol):
    """The event log, for own messages and for who runs what where."""

    @property
    def index(self) -> LocationIndex: ...

    async def apply_local(self, envelope: Envelope) -> Decision: ...


class Sender(Protocol):
    """Signs, and sends to all peers (`peers.service.PeerService`)."""

    def seal(self, data: dict[str, Any]) -> Envelope: ...

    def broadcast_envelope(self, envelope: Envelope) -> int: ...

    def live_links(self, since_ms: int) -> int:
        """Links that were made, or answered a ping, after that moment."""
        ...


class AddressWatch:
    """Service "addresswatch".

    `needs_static(app)`: whether its specification asks for a static address. `confirm`: tells the chain
    where the node is now (createconfirmationtransaction); it may raise TrionodeError.
    """

    name = "addresswatch"

    def __init__(
        self,
        settings: MonitorSettings,
        *,
        facts: AddressFacts,
        store: AddressStore,
        own_log: OwnLog,
        sender: Sender,
        host: AppHost,
        removal: AppRemoval,
        dos: DosState,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        public_key: str,
        needs_static: Callable[[str], bool],
        confirm: Callable[[], Awaitable[object]],
        stop_grace_s: float,
    ) -> None:
        self._settings = settings
        self._facts = facts
        self._store = store
        self._own_log = own_log
        self._sender = sender
        self._host = host
        self._removal = removal
        self._dos = dos
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._public_key = public_key
        self._needs_static = needs_static
        self._confirm = confirm
        self._stop_grace_s = stop_grace_s
        self._book = AddressBook()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled. Raises StoreError."""
        self._book = await self._load()
        with self._bus.subscribe("chain:address", buffer=1) as news:
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._penalise)
                while True:
                    await self._look()
                    await news.receive()

    async def _load(self) -> AddressBook:
        text = await self._store.get_meta(META_KEY)
        try:
            return AddressBook() if text is None else msgspec.json.decode(text, type=AddressBook)
        except msgspec.DecodeError:
            return AddressBook()

    async def _keep(self, book: AddressBook) -> None:
        self._book = book
        await self._store.put_meta(META_KEY, msgspec.json.encode(book).decode())

    async def _look(self) -> None:
        now, before = self._facts.own_address, self._book.address
        if now is None or now == before:
            return
        if not before or _ip(now) == _ip(before):
            await self._keep(AddressBook(now, self._book.changed_ms))
            return
        log.warning("the public address changed", was=before, now=now)
        self._counters.add("address.changed")
        at_ms = self._clock.now_ms()
        again = self._changes_within(at_ms) > 0
        await self._keep(AddressBook(now, (*self._recent(at_ms), at_ms)))
        if again:
            await self._removal.remove_all("address changed twice within a day")
            return
        await self._move(before, now, at_ms)

    def _recent(self, now_ms: int) -> tuple[int, ...]:
        window_ms = self._settings.address_change_window_s * 1000
        return tuple(at_ms for at_ms in self._book.changed_ms if now_ms - window_ms < at_ms <= now_ms)

    def _changes_within(self, now_ms: int) -> int:
        return len(self._recent(now_ms))

    async def _move(self, before: str, now: str, at_ms: int) -> None:
        """The apps first, then the news, then the chain."""
        if await self._sort_out_apps(now):
            try:
                await self._tell(before, now, at_ms)
            except TrionodeError as error:
                self._counters.add("address.not_told")
                log.error("change of address not told", problem=error.message, remedy=error.remedy)
        try:
            await self._confirm()
        except TrionodeError as error:
            self._counters.add("address.not_confirmed")
            log.error("no confirmation transaction", problem=error.message, remedy=error.remedy)

    async def _sort_out_apps(self, now: str) -> int:
        """Remove what cannot stay at the new address, restart the rest; how many stay."""
        stay = 0
        taken = {row.name for row in self._own_log.index.locations() if _ip(row.ip) == _ip(now)}
        for app in self._host.installed():
            if self._needs_static(app.name):
                await self._removal.remove(app.name, "needs a static address")
            elif app.name in taken:
                await self._removal.remove(app.name, "runs at the new address already")
            else:
                stay += 1
                await self._restart([component.identifier for component in app.components])
        return stay

    async def _restart(self, identifiers: list[str]) -> None:
        for identifier in identifiers:
            try:
                with trio.fail_after(self._stop_grace_s + ENGINE_LIMIT_S):
                    await self._host.stop(container_name(identifier), self._stop_grace_s)
                    await self._host.start(identifier)
            except trio.TooSlowError:
                self._counters.add("address.restart_failed")
                log.error("container not restarted", container=identifier, problem="the engine hangs")
            except TrionodeError as error:
                self._counters.add("address.restart_failed")
                log.error("container not restarted", container=identifier, problem=error.one_line())

    async def _tell(self, before: str, now: str, at_ms: int) -> None:
        try:
            await self._own_log.apply_local(self._seal(before, now))
        except StoreError as error:
            # Our own rows follow when a peer tells of the change; the network must hear of it from us.
            self._counters.add("address.not_stored")
            log.error("change of address not in the own log", problem=error.one_line())
        entry = self._facts.nodes.by_address(before)
        if entry is None or entry.pubkey != self._public_key:
            self._counters.add("address.not_listed")
            log.warning("no peer would believe it: the old address is not listed with our key", was=before)
            return
        await self._links_live(at_ms)
        if self._facts.own_address is not None and not same_address(self._facts.own_address, now):
            return  # changed again meanwhile; that change is judged on its own
        peers = self._sender.broadcast_envelope(self._seal(before, now))
        self._counters.add("address.told")
        log.info("change of address told", peers=peers)

    def _seal(self, before: str, now: str) -> Envelope:
        return self._sender.seal(
            {
                "type": "fluxipchanged",
                "version": 1,
                "oldIP": before,
                "newIP": now,
                "broadcastedAt": self._clock.now_ms(),
            }
        )

    async def _links_live(self, since_ms: int) -> None:
        """Old links may hang on the old address: what is sent there, nobody hears."""
        with trio.move_on_after(LINKS_WAIT_S):
            while self._sender.live_links(since_ms) < LINKS_WANTED:  # noqa: ASYNC110 - pongs are no news
                await trio.sleep(LINKS_LOOK_S)

    async def _penalise(self) -> None:
        """While two changes lie within the window the penalty grows; afterwards it is gone."""
        while True:
            unsteady = self._changes_within(self._clock.now_ms()) > 1
            amount = grown(ADDRESS_UNSTEADY, self._dos.of(ADDRESS_UNSTEADY.source)) if unsteady else 0
            self._dos.put(
                ADDRESS_UNSTEADY.source,
                amount,
                message_of(ADDRESS_UNSTEADY, amount),
                name=ADDRESS_UNSTEADY.name,
            )
            await trio.sleep(self._settings.availability_interval_s)


def _ip(address: str) -> str:
    return address.partition(":")[0]
