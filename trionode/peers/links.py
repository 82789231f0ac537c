"""The life of a link: admission or dial, its tasks, its end (wire.md §2).

Each peer runs in a nursery of its own: whatever goes wrong there is logged, counted and ends that
link only. Inbound links run in tasks of the front door; `stop` ends them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from trionode.config.tree import Settings
from trionode.errors import PeerError
from trionode.peers import admission, closecodes
from trionode.peers.badmessages import BadMessages
from trionode.peers.closecodes import Direction
from trionode.peers.discovery import Target
from trionode.peers.facts import NetworkFacts
from trionode.peers.link import Hello, InboundRequest, Link, LinkClosed, PeerTransport
from trionode.peers.outbox import Outbox
from trionode.peers.peer import Peer
from trionode.peers.receive import Receiver
from trionode.peers.role import MEMBER, Role
from trionode.peers.table import PeerTable
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.address import peer_key, split_address

log = get_logger("peers")

STOP_GRACE_S = 1.0
"""How long a link may take for its close handshake when the node stops."""


class Links:
    """Runs links. The peer service sets the hooks: `on_open` for a peer just entered into the
    table, `on_over` for any peer whose link is gone, `on_lost` for one taken out of the table;
    `known_nodes` is the size of the node list that sets the inbound cap.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        transport: PeerTransport,
        facts: NetworkFacts,
        table: PeerTable,
        receiver: Receiver,
        counters: Counters,
        clock: WallClock,
        known_nodes: Callable[[], int],
        on_open: Callable[[Peer], None],
        on_over: Callable[[Peer], None],
        on_lost: Callable[[Peer], None],
        role: Role = MEMBER,
    ) -> None:
        self._node = settings.node
        self._settings = settings.peers
        self._network = settings.network
        self._transport = transport
        self._facts = facts
        self._table = table
        self._receiver = receiver
        self._counters = counters
        self._clock = clock
        self._known_nodes = known_nodes
        self._on_open = on_open
        self._on_over = on_over
        self._on_lost = on_lost
        self._role = role
        self._started_s: float | None = None
        self._own_port: int | None = None
        self._inbound: dict[trio.CancelScope, None] = {}
        self._inbound_over = trio.Event()
        self.accepting = False
        """False before the service runs and while it stops."""
        self.clock_offset_ms: int | None = None
        """Our own clock's NTP offset, positive when fast; told to peers when known."""

    def start(self) -> None:
        """Accept links; the uptime told to peers counts from here."""
        self._started_s = trio.current_time()
        self.accepting = True

    async def stop(self) -> None:
        """Refuse further links, end the inbound ones and wait for them a little; to be shielded."""
        self.accepting = False
        for scope in list(self._inbound):
            scope.cancel()
        with trio.move_on_after(2 * STOP_GRACE_S):
            while self._inbound:
                self._inbound_over = trio.Event()
                await self._inbound_over.wait()

    async def handle_inbound(self, request: InboundRequest) -> None:
        """Admit one upgrade request and serve the link until its end (wire.md §2).

        Called in the front door's own task; never raises because of what the peer does.
        """
        with trio.CancelScope() as scope:
            self._inbound[scope] = None
            try:
                async with request.accept(self.hello()) as link:
                    await self._admit(link, request)
            except PeerError as error:
                self._counters.add("peers.inbound.failed")
                log.debug("inbound link failed", ip=request.remote_ip, error=error.one_line())
            finally:
                del self._inbound[scope]
                if not self._inbound:
                    self._inbound_over.set()

    @asynccontextmanager
    async def ephemeral(self, ip: str, port: int) -> AsyncIterator[Peer]:
        """A short link for one purpose: not in the table, no pings, no broadcasts (wire.md §3).

        What the other side sends goes through the gossip pipeline. Closed with 4018 at the end of
        the block. Raises DialError; if the link breaks early, `peer.gone` becomes true.
        """
        async with self._transport.dial(
            ip, port, self.hello(), own_port=self.dial_path_port(), ephemeral=True
        ) as link:
            peer = self._new_peer(link, ip, port, "outbound", "ephemeral")
            failure: Exception | None = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._attend, peer)
                try:
                    yield peer
                except Exception as error:  # noqa: BLE001 - raised below, outside the nursery's group
                    failure = error
                finally:
                    peer.close(closecodes.EPHEMERAL_DONE, "done")
            if failure is not None:
                raise failure

    async def _admit(self, link: Link, request: InboundRequest) -> None:
        port = admission.dial_port(request.dial_port)
        maximum = admission.max_inbound(self._known_nodes(), self._settings.min_inbound)
        refusal = admission.check_inbound(
            accepting=self.accepting and self._facts.confirmed and self._role.is_member,
            inbound_count=self._table.inbound,
            max_connections=maximum,
            remote_ip=link.remote_ip,
            allow_private=self._network.allow_private_addresses,
        )
        if refusal is None and port is None:
            refusal = admission.BAD_PORT
        if refusal is not None or port is None:
            await self._refuse(link, refusal or admission.BAD_PORT)
            return
        refusal = await self._check_duplicate(link, port)
        if refusal is not None:
            await self._refuse(link, refusal)
            return
        await self._host(self._new_peer(link, link.remote_ip, port, "inbound", "inbound"))

    async def _check_duplicate(self, link: Link, port: int) -> admission.Refusal | None:
        """Check 5; None lets the new link replace what is under its key."""
        key = peer_key(link.remote_ip, port)
        held = self._table.get(key)
        decision = admission.check_duplicate(
            connected=held is not None,
            alive=held is not None and held.is_alive,
            reconnecting=link.remote_hello.reconnect,
            crossing=held is not None and self._is_crossing(held),
        )
        if decision is admission.Duplicate.REFUSE:
            return admission.ALREADY_CONNECTED
        if decision is admission.Duplicate.VERIFY and held is not None:
            alive = await held.pinger.answers_within(self._settings.duplicate_check_timeout_s)
            if alive and self._table.get(key) is held:
                return admission.VERIFIED_ALIVE
        return None

    def _is_crossing(self, held: Peer) -> bool:
        """A fresh dial of ours met a dial of that peer, and the peer's is the one to keep."""
        own = self._own_key()
        age_ms = self._clock.now_ms() - held.connected_at_ms
        fresh = age_ms <= self._settings.handshake_timeout_s * 1000
        return (
            held.direction == "outbound" and fresh and own is not None and admission.dial_wins(held.key, own)
        )

    async def _refuse(self, link: Link, refusal: admission.Refusal) -> None:
        self._counters.add(f"peers.inbound.refused.{refusal.code}")
        log.debug("inbound link refused", ip=link.remote_ip, code=refusal.code, reason=refusal.reason)
        if refusal.delayed:
            await trio.sleep(self._settings.refusal_delay_s)
        await link.close(refusal.code, refusal.reason)

    async def host_dialled(self, link: Link, target: Target) -> None:
        """Run an outbound peer; when the other side's dial was faster and wins, drop ours."""
        held, own = self._table.get(target.key), self._own_key()
        if not self._role.may_link(self._facts):
            await link.close(closecodes.UNCONFIRMED, "node unconfirmed")
        elif (
            held is not None and held.is_alive and own is not None and not admission.dial_wins(own, held.key)
        ):
            self._counters.add("peers.dial.crossed")
            await link.close(closecodes.DUPLICATE, admission.ALREADY_CONNECTED.reason)
        else:
            await self._host(
                self._new_peer(link, target.ip, target.port, "outbound", target.source, target.reconnects)
            )

    def _new_peer(
        self, link: Link, ip: str, port: int, direction: Direction, source: str, reconnects: int = 0
    ) -> Peer:
        settings = self._settings
        return Peer(
            ip=ip,
            port=port,
            direction=direction,
            source=source,
            link=link,
            outbox=Outbox(settings, self._counters),
            bad=BadMessages(settings.bad_message_limit, settings.bad_message_window_s),
            max_missed_pongs=settings.max_missed_pongs,
            clock=self._clock,
            reconnects=reconnects,
        )

    async def _host(self, peer: Peer) -> None:
        """A regular peer from its entry into the table to its end."""
        replaced = self._table.add(peer)
        if replaced is not None:
            replaced.close(closecodes.DUPLICATE, "replaced")
        log.debug("peer added", peer=peer.key, direction=peer.direction, source=peer.source)
        self._on_open(peer)
        try:
            await self._attend(peer)
        finally:
            code, reason = peer.close_code, peer.close_reason
            if self._table.remove(peer, code, reason):
                log.debug("peer removed", peer=peer.key, code=code, reason=reason)
                self._on_lost(peer)

    async def _attend(self, peer: Peer) -> None:
        """Read and write until the link is gone; a crash of these is data, not an error."""
        closed: LinkClosed | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.outbox.run, peer.link, name=f"write {peer.key}")
                await self._receiver.run(peer)
        except* LinkClosed as group:
            closed = _most_telling(group)
        except* Exception as group:
            self._counters.add("peers.crashed")
            log.error("peer crashed", peer=peer.key, exc_info=group)
            closed = LinkClosed(closecodes.GOING_AWAY, "internal error", by_us=True)
        finally:
            ending = peer.outbox.closing
            if ending is not None:
                closed = LinkClosed(*ending, by_us=True)
            elif closed is None:
                closed = LinkClosed(closecodes.GOING_AWAY, "node stopping", by_us=True)
            peer.ended(closed.close_code, closed.reason)
            self._on_over(peer)
            if closed.by_us:
                with trio.move_on_after(STOP_GRACE_S, shield=True):
                    await peer.link.close(closed.close_code, closed.reason)

    def hello(self, reconnect: bool = False) -> Hello:
        """What our headers say now."""
        uptime_s = 0.0 if self._started_s is None else trio.current_time() - self._started_s
        return Hello(
            capabilities=frozenset(self._role.capabilities),
            version=self._node.compatibility_version,
            uptime_s=int(uptime_s),
            clock_offset_ms=self.clock_offset_ms,
            reconnect=reconnect,
        )

    def _own_key(self) -> str | None:
        address = self._facts.own_address
        return None if address is None else peer_key(*split_address(address))

    def dial_path_port(self) -> int:
        """The port of the own address at its first reading; the configured one until then."""
        if self._own_port is None:
            address = self._facts.own_address
            if address is None:
                return self._node.api_port
            self._own_port = split_address(address)[1]
        return self._own_port


def _most_telling(group: BaseExceptionGroup[LinkClosed]) -> LinkClosed:
    """Of several tasks that met the end of one link, the one that knows a close code."""
    return max(_leaves(group), key=lambda closed: (closed.close_code != closecodes.LOST, closed.by_us))


def _leaves(group: BaseExceptionGroup[LinkClosed]) -> list[LinkClosed]:
    found: list[LinkClosed] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
