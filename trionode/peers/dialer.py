"""Carrying out discovery (wire.md §3): passes, dials, invitations, and dials on request.

A pass runs while the daemon is synced, the node confirmed and its own address known; the next one
follows 60 s later. When it cannot run it is tried again after 120 s, or as soon as a fact changes.
Every outbound peer lives in a task of this service's nursery.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

from trionode.config.tree import NetworkSettings, PeerSettings
from trionode.errors import PeerError
from trionode.peers.admission import address_allowed
from trionode.peers.closecodes import Direction
from trionode.peers.discovery import (
    InviteBackoff,
    RandomWalk,
    ReconnectQueue,
    Target,
    deterministic_inbound,
    deterministic_outbound,
    enough_links,
)
from trionode.peers.facts import WAKE_EVENTS, NetworkFacts
from trionode.peers.link import DialError, Hello, Link, PeerTransport
from trionode.peers.role import MEMBER, Role
from trionode.peers.table import PeerTable
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.address import provider

log = get_logger("peers.dialer")

MAX_REQUESTS = 64
"""Dials on request that may wait; further ones are refused."""


class Dialer:
    """Keeps the node connected. `host` runs a peer on an open link and returns when it is over."""

    def __init__(
        self,
        settings: PeerSettings,
        network: NetworkSettings,
        *,
        transport: PeerTransport,
        table: PeerTable,
        facts: NetworkFacts,
        bus: EventBus,
        counters: Counters,
        rng: random.Random,
        hello: Callable[[bool], Hello],
        own_port: Callable[[], int],
        host: Callable[[Link, Target], Awaitable[None]],
        role: Role = MEMBER,
    ) -> None:
        self._settings = settings
        self._allow_private = network.allow_private_addresses
        self._transport = transport
        self._table = table
        self._facts = facts
        self._bus = bus
        self._counters = counters
        self._rng = rng
        self._hello = hello
        self._own_port = own_port
        self._host = host
        self._role = role
        self._pending: dict[str, int] = {}
        self._dials = 0
        self._inviting: dict[str, None] = {}
        self._backoff = InviteBackoff(settings.invite_backoff_s)
        self._reconnects = ReconnectQueue()
        self._wanted = trio.Event()
        self._requests_in, self._requests_out = trio.open_memory_channel[Target](MAX_REQUESTS)
        self.known_nodes = 0
        """Size of the node list of the last pass, which sets the inbound cap."""
        self.passes = 0

    def start(self) -> None:
        """Begin discovery when `discovery_autostart` is off; idempotent."""
        self._wanted.set()

    @property
    def started(self) -> bool:
        """Whether passes are being made (or waiting for the chain)."""
        return self._wanted.is_set()

    def request(self, target: Target) -> bool:
        """Dial this node soon, outside of the passes; False if too many such dials wait."""
        try:
            self._requests_in.send_nowait(target)
        except trio.WouldBlock:
            return False
        return True

    def is_pending(self, key: str) -> bool:
        """Whether a dial to this key is under way."""
        return key in self._pending

    def lost(self, ip: str, port: int) -> None:
        """An outbound peer was lost in a way that a new dial may cure."""
        self._reconnects.lost(ip, port)

    def forget_lost(self) -> None:
        self._reconnects.clear()

    def connected(self, key: str) -> None:
        """A link with this key came to be, in whichever direction."""
        self._backoff.connected(key)

    async def run(self) -> None:
        """Work until cancelled."""
        if self._settings.discovery_autostart:
            self.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve_requests, nursery)
            await self._wanted.wait()
            while True:
                if not self._is_ready():
                    await self._until_ready()
                    continue
                try:
                    await self._pass(nursery)
                except Exception as error:
                    self._counters.add("peers.discovery.failed")
                    log.error("discovery pass failed", exc_info=error)
                    await trio.sleep(self._settings.discovery_retry_s)
                    continue
                await self._pause()

    def _is_ready(self) -> bool:
        facts, role = self._facts, self._role
        has_place = bool(facts.own_address) or not role.is_member
        return facts.synced and role.may_link(facts) and has_place and len(facts.nodes) > 0

    async def _until_ready(self) -> None:
        with (
            self._bus.subscribe(*WAKE_EVENTS, buffer=1) as news,
            trio.move_on_after(self._settings.discovery_retry_s),
        ):
            while not self._is_ready():
                await news.receive()

    async def _pause(self) -> None:
        """Until the next pass is due; a node that regains its confirmation does not wait for it."""
        with (
            self._bus.subscribe("confirmation:changed", buffer=1) as news,
            trio.move_on_after(self._settings.discovery_interval_s),
        ):
            await news.receive()

    async def _serve_requests(self, nursery: trio.Nursery) -> None:
        while True:
            target = await self._requests_out.receive()
            if self._may_dial(target):
                self._begin(target, nursery)

    async def _pass(self, nursery: trio.Nursery) -> None:
        nodes, own = self._facts.nodes, self._facts.own_address or ""
        addresses = [entry.ip for entry in nodes.sorted_for_discovery()]
        self.known_nodes = len(addresses)
        self.passes += 1

        def listed(key: str) -> bool:
            return nodes.by_address(key) is not None

        self._backoff.keep_only(listed)
        size = self._settings.min_outbound
        for target in deterministic_outbound(addresses, own, size):
            if not self._backoff.waits(target.key, trio.current_time()):
                await self._dial_spaced(target, nursery)
        await self._invite_all(deterministic_inbound(addresses, own, size), own)
        for target in self._reconnects.due(self._table.__contains__, self._table.is_unstable, listed):
            await self._dial_spaced(target, nursery)
        walk = RandomWalk(addresses, own, self._rng, allowed=self._allowed)
        await self._random_outbound(walk, nursery)
        await self._random_inbound(walk, own)

    async def _random_outbound(self, walk: RandomWalk, nursery: trio.Nursery) -> None:
        settings, table = self._settings, self._table
        taken = self._providers("outbound")
        for _ in range(settings.random_draws):
            if enough_links(
                table.outbound,
                table.distinct_ips("outbound"),
                wanted=settings.random_outbound,
                wanted_ips=settings.random_outbound_ips,
            ):
                return
            target = walk.draw(self._is_taken, taken)
            if target is not None:
                await self._dial_spaced(target, nursery)
                taken = self._providers("outbound")

    async def _random_inbound(self, walk: RandomWalk, own: str) -> None:
        settings, table = self._settings, self._table
        taken = self._providers("inbound")
        for _ in range(settings.random_draws):
            if enough_links(
                table.inbound,
                table.distinct_ips("inbound"),
                wanted=settings.random_inbound,
                wanted_ips=settings.random_inbound_ips,
            ):
                return
            target = walk.draw(self._is_taken, taken)
            if target is not None:
                await self._invite(target, own)
                await trio.sleep(settings.dial_spacing_s)
                taken = self._providers("inbound")

    def _providers(self, direction: Direction) -> set[str]:
        return {provider(peer.ip) for peer in self._table.peers(direction)}

    def _allowed(self, ip: str) -> bool:
        return address_allowed(ip, allow_private=self._allow_private)

    def _is_taken(self, key: str) -> bool:
        return key in self._table or key in self._pending

    def _may_dial(self, target: Target) -> bool:
        has_room = self._role.has_room(len(self._table) + len(self._pending))
        return has_room and not self._is_taken(target.key) and self._allowed(target.ip)

    async def _dial_spaced(self, target: Target, nursery: trio.Nursery) -> None:
        if self._may_dial(target):
            self._begin(target, nursery)
            await trio.sleep(self._settings.dial_spacing_s)

    def _begin(self, target: Target, nursery: trio.Nursery) -> None:
        self._dials += 1
        self._pending[target.key] = self._dials
        nursery.start_soon(self._dial, target, self._dials, name=f"peer {target.key}")

    def _is_over(self, key: str, number: int) -> None:
        """This dial is pending no longer. Its link may have ended while the next dial is under way."""
        if self._pending.get(key) == number:
            del self._pending[key]

    async def _dial(self, target: Target, number: int) -> None:
        self._counters.add("peers.dial.started")
        # also for a lost neighbour, which step 2 dials first: its old link may look alive over there
        hello = self._hello(target.key in self._reconnects)
        try:
            async with self._transport.dial(target.ip, target.port, hello, own_port=self._own_port()) as link:
                self._is_over(target.key, number)
                await self._host(link, target)
        except PeerError as error:
            self._counters.add("peers.dial.failed")
            log.debug("dial failed", peer=target.key, source=target.source, error=error.one_line())
        except Exception as error:
            self._counters.add("peers.crashed")
            log.error("dial crashed", peer=target.key, exc_info=error)
        finally:
            self._is_over(target.key, number)

    async def _invite_all(self, targets: list[Target], own: str) -> None:
        async with trio.open_nursery() as nursery:
            for target in targets:
                waits = self._backoff.waits(target.key, trio.current_time())
                if not waits and self._may_dial(target) and target.key not in self._inviting:
                    nursery.start_soon(self._invite, target, own, True)

    async def _invite(self, target: Target, own: str, with_backoff: bool = False) -> None:
        """Ask a node to dial us; only failures of deterministic neighbours make it wait."""
        self._counters.add("peers.invite.sent")
        self._inviting[target.key] = None
        try:
            with trio.fail_after(self._settings.invite_timeout_s):
                await self._transport.invite(target.ip, target.port, own)
        except (DialError, trio.TooSlowError):
            self._counters.add("peers.invite.failed")
            if with_backoff:
                self._backoff.failed(target.key, trio.current_time())
        finally:
            self._inviting.pop(target.key, None)
