"""PeerService: everything between the links and the event log, as one supervised service.

It composes admission, table, discovery, liveness, exchange and gossip (wire.md §2-§6, §9). Each
peer runs in a nursery of its own: whatever goes wrong there is logged, counted and ends that link
only. Inbound links run in tasks of the front door; they end when this service stops.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import trio

from trionode.config.tree import Settings
from trionode.errors import PeerError
from trionode.peers import admission, closecodes
from trionode.peers.badmessages import BadMessages
from trionode.peers.broadcast import Broadcaster
from trionode.peers.closecodes import Direction
from trionode.peers.dialer import Dialer
from trionode.peers.discovery import Source, Target
from trionode.peers.exchange import PendingChanges, Topology
from trionode.peers.facts import NetworkFacts
from trionode.peers.gossip import Gossip, Ledger, MessageHandler
from trionode.peers.link import CAPABILITIES, Hello, InboundRequest, Link, LinkClosed, PeerTransport
from trionode.peers.liveness import Liveness
from trionode.peers.outbox import Outbox, Tier
from trionode.peers.outgoing import Forms
from trionode.peers.peer import Peer
from trionode.peers.receive import Receiver
from trionode.peers.table import PeerTable
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.address import peer_key, split_address
from trionode.wire.envelope import Envelope, seal
from trionode.wire.frames import Frame, PeerExchange
from trionode.wire.jsjson import JsValue
from trionode.wire.keys import NodeKey

log = get_logger("peers")

STOP_GRACE_S = 1.0
"""How long a link may take for its close handshake when the node stops."""


class PeerRefused(PeerError):
    """A dial on request was refused (wire.md §3 addoutgoingpeer)."""


class PeerService:
    """`table`, `gossip`, `topology` and `receiver` are for reading and for registering hooks."""

    name = "peers"

    def __init__(
        self,
        settings: Settings,
        *,
        transport: PeerTransport,
        facts: NetworkFacts,
        log: Ledger,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        rng: random.Random,
        key: NodeKey,
    ) -> None:
        self._node = settings.node
        self._settings = settings.peers
        self._network = settings.network
        self._transport = transport
        self._facts = facts
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._key = key
        self._started_s: float | None = None
        self._own_port: int | None = None
        self._running = False
        self._inbound: dict[trio.CancelScope, None] = {}
        self._inbound_over = trio.Event()
        self._changes = PendingChanges()
        self._changed = trio.Event()
        self.clock_offset_ms: int | None = None
        """Our own clock's NTP offset, positive when fast; told to peers when known."""
        self.table = PeerTable(self._settings, bus, clock)
        self.table.on_change(self._on_change)
        self.topology = Topology(self._accepts_reported)
        self.forms = Forms(transport, clock)
        self.broadcaster = Broadcaster(self._settings, self.table, self.forms, counters)
        self.gossip = Gossip(
            settings.gossip,
            settings.network,
            ledger=log,
            facts=facts,
            table=self.table,
            broadcaster=self.broadcaster,
            forms=self.forms,
            counters=counters,
            clock=clock,
            rng=rng,
        )
        self.receiver = Receiver(
            self._settings,
            settings.gossip,
            gossip=self.gossip,
            topology=self.topology,
            counters=counters,
            clock=clock,
            own_clock_offset_ms=lambda: self.clock_offset_ms,
        )
        self.dialer = Dialer(
            self._settings,
            settings.network,
            transport=transport,
            table=self.table,
            facts=facts,
            bus=bus,
            counters=counters,
            rng=rng,
            hello=self._hello,
            own_port=self._dial_path_port,
            host=self._host_dialled,
        )
        self._liveness = Liveness(self._settings, self.table, counters)

    # --- what other rooms use ---------------------------------------------------------------

    def broadcast_own(self, data: dict[str, JsValue]) -> Envelope:
        """Sign a message with the node key and send it to all peers, paced (wire.md §9).

        The caller applies it to the own log; whether the network will accept it is told by
        `NetworkFacts.can_send`.
        """
        envelope = seal(data, self._key, self._clock.now_ms())
        self.broadcast_envelope(envelope)
        return envelope

    def broadcast_envelope(self, envelope: Envelope) -> int:
        """The same for an envelope sealed before; how many peers it goes to."""
        return self.gossip.own(envelope)

    def register_handler(self, message_type: str, handler: MessageHandler) -> None:
        """Let another room take verified envelopes of one gossip type; see `Gossip`."""
        self.gossip.register_handler(message_type, handler)

    def rows(self, direction: Direction | None = None, key: str | None = None) -> list[dict[str, Any]]:
        """The live peers as /flux/peers shows them."""
        return self.table.rows(direction, key)

    def start_discovery(self) -> None:
        """Begin discovery when it does not start by itself (/flux/startdiscovery)."""
        self.dialer.start()

    def send_text(self, peer: Peer, text: str) -> None:
        """Queue a text that must not be dropped (a reply) for one peer."""
        self.forms.text(text).send(peer, Tier.REPLY)

    def send_frame(self, peer: Peer, frame: Frame) -> None:
        """Queue a peer-level message that must not be dropped for one peer."""
        self.forms.frame(frame).send(peer, Tier.REPLY)

    def close_peer(self, key: str, reason: str = "purposefully closed") -> bool:
        """Close a live peer for the operator (4009 / 4010); False if there is none."""
        peer = self.table.get(key)
        if peer is None:
            return False
        peer.close(closecodes.closed_on_purpose(peer.direction), reason)
        return True

    def add_outgoing(
        self, ip: str, port: int, *, source_ip: str | None = None, source: Source = "deterministic"
    ) -> str:
        """Dial a node on request; the message for the answer of /flux/addoutgoingpeer.

        `source_ip` is the asker's TCP address, which must be the one to dial; None for the
        operator. Raises PeerRefused with the text for the error answer.
        """
        key = peer_key(ip, port)
        if not self._facts.confirmed:
            raise PeerRefused("Node is not confirmed.", remedy="wait for the confirmation of this node")
        if source_ip is not None and source_ip != ip:
            raise PeerRefused(
                f"Request ip {source_ip} is not {ip}", remedy="a node can ask only for a link to itself"
            )
        if key in self.table or self.dialer.is_pending(key):
            raise PeerRefused(f"Already connected to {key}", remedy="use the link there is")
        if self._facts.nodes.by_address(key) is None:
            raise PeerRefused(
                f"{key} is not in the node list", remedy="ask again when the chain knows the node"
            )
        if not admission.address_allowed(ip, allow_private=self._network.allow_private_addresses):
            raise PeerRefused(
                f"{ip} is a private address", remedy="set network.allow_private_addresses on local networks"
            )
        if not self.dialer.request(Target(ip, port, source)):
            raise PeerRefused("Too many dials are waiting", remedy="ask again in a minute")
        return f"Outgoing connection to {key} initiated"

    @asynccontextmanager
    async def ephemeral(self, ip: str, port: int) -> AsyncIterator[Peer]:
        """A short link for one purpose: not in the table, no pings, no broadcasts (wire.md §3).

        What the other side sends goes through the gossip pipeline. Closed with 4018 at the end of
        the block. Raises DialError; if the link breaks early, `peer.gone` becomes true.
        """
        async with self._transport.dial(
            ip, port, self._hello(False), own_port=self._dial_path_port(), ephemeral=True
        ) as link:
            peer = self._new_peer(link, ip, port, "outbound", "ephemeral")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._attend, peer)
                try:
                    yield peer
                finally:
                    peer.close(closecodes.EPHEMERAL_DONE, "done")

    async def handle_inbound(self, request: InboundRequest) -> None:
        """Admit one upgrade request and serve the link until its end (wire.md §2).

        Called in the front door's own task; never raises because of what the peer does.
        """
        with trio.CancelScope() as scope:
            self._inbound[scope] = None
            try:
                async with request.accept(self._hello(False)) as link:
                    await self._admit(link, request)
            except PeerError as error:
                self._counters.add("peers.inbound.failed")
                log.debug("inbound link failed", ip=request.remote_ip, error=error.one_line())
            finally:
                del self._inbound[scope]
                if not self._inbound:
                    self._inbound_over.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, then close every link (1001)."""
        self._started_s = trio.current_time()
        self._running = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.gossip.run, name="gossip")
                nursery.start_soon(self.broadcaster.run, name="paced broadcasts")
                nursery.start_soon(self._liveness.run, name="liveness")
                nursery.start_soon(self._tell_changes, name="peer exchange")
                nursery.start_soon(self._watch_confirmation, name="confirmation watch")
                nursery.start_soon(self._watch_nodes, name="node list watch")
                nursery.start_soon(self.dialer.run, name="dialer")
                task_status.started()
        finally:
            self._running = False
            for scope in list(self._inbound):
                scope.cancel()
            with trio.move_on_after(2 * STOP_GRACE_S, shield=True):
                while self._inbound:
                    self._inbound_over = trio.Event()
                    await self._inbound_over.wait()

    # --- one link ---------------------------------------------------------------------------

    async def _admit(self, link: Link, request: InboundRequest) -> None:
        port = admission.dial_port(request.dial_port)
        maximum = admission.max_inbound(self.dialer.known_nodes, self._settings.min_inbound)
        refusal = admission.check_inbound(
            accepting=self._running and self._facts.confirmed,
            inbound_count=self.table.inbound,
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
        held = self.table.get(key)
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
            if alive and self.table.get(key) is held:
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

    async def _host_dialled(self, link: Link, target: Target) -> None:
        """Run an outbound peer; when the other side's dial was faster and wins, drop ours."""
        held, own = self.table.get(target.key), self._own_key()
        if not self._facts.confirmed:
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
        replaced = self.table.add(peer)
        if replaced is not None:
            replaced.close(closecodes.DUPLICATE, "replaced")
        self.dialer.connected(peer.key)
        log.info("peer added", peer=peer.key, direction=peer.direction, source=peer.source)
        if peer.takes_exchange:
            self.send_frame(peer, self._all_peers_but(peer))
        try:
            await self._attend(peer)
        finally:
            code, reason = peer.close_code, peer.close_reason
            if self.table.remove(peer, code, reason):
                log.info("peer removed", peer=peer.key, code=code, reason=reason)
                if peer.direction == "outbound" and self._running and closecodes.dialler_redials(code):
                    self.dialer.lost(peer.ip, peer.port)

    async def _attend(self, peer: Peer) -> None:
        """Read, write and ping until the link is gone; a crash of these is data, not an error."""
        closed: LinkClosed | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.outbox.run, peer.link, name=f"write {peer.key}")
                if not peer.ephemeral:
                    nursery.start_soon(peer.pinger.run, name=f"ping {peer.key}")
                await self.receiver.run(peer)
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
            self.gossip.peer_gone(peer)
            if closed.by_us:
                with trio.move_on_after(STOP_GRACE_S, shield=True):
                    await peer.link.close(closed.close_code, closed.reason)

    # --- own side ---------------------------------------------------------------------------

    def _hello(self, reconnect: bool) -> Hello:
        uptime_s = 0.0 if self._started_s is None else trio.current_time() - self._started_s
        return Hello(
            capabilities=frozenset(CAPABILITIES),
            version=self._node.compatibility_version,
            uptime_s=int(uptime_s),
            clock_offset_ms=self.clock_offset_ms,
            reconnect=reconnect,
        )

    def _own_key(self) -> str | None:
        address = self._facts.own_address
        return None if address is None else peer_key(*split_address(address))

    def _dial_path_port(self) -> int:
        """The port of the own address at its first reading; the configured one until then."""
        if self._own_port is None:
            address = self._facts.own_address
            if address is None:
                return self._node.api_port
            self._own_port = split_address(address)[1]
        return self._own_port

    def _accepts_reported(self, key: str) -> bool:
        ip, _, port = key.rpartition(":")
        return (
            port.isascii()
            and port.isdecimal()
            and int(port[:6]) in self._network.allowed_api_ports
            and admission.address_allowed(ip, allow_private=self._network.allow_private_addresses)
        )

    def _all_peers_but(self, recipient: Peer) -> PeerExchange:
        others = [peer for peer in self.table if peer is not recipient]
        return PeerExchange(
            outbound=tuple(peer.key for peer in others if peer.direction == "outbound"),
            inbound=tuple(peer.key for peer in others if peer.direction == "inbound"),
        )

    def _on_change(self, event: Literal["added", "removed"], peer: Peer) -> None:
        if event == "added":
            self._changes.added(peer.key, peer.direction)
        else:
            self._changes.removed(peer.key, peer.direction)
            self.topology.forget(peer.key)
        self._changed.set()

    async def _tell_changes(self) -> None:
        """Send the net changes to all capable peers, 2 s after the first of them."""
        while True:
            await self._changed.wait()
            await trio.sleep(self._settings.exchange_update_delay_s)
            self._changed = trio.Event()
            update = self._changes.take()
            if update is None:
                continue
            outgoing = self.forms.frame(update)
            for peer in self.table:
                if peer.takes_exchange:
                    outgoing.send(peer, Tier.GOSSIP)

    async def _watch_confirmation(self) -> None:
        """Without confirmation there are no peers (4019)."""
        with self._bus.subscribe("confirmation:changed", buffer=4) as news:
            while True:
                if not self._facts.confirmed:
                    for peer in self.table:
                        peer.close(closecodes.UNCONFIRMED, "node unconfirmed")
                    self.dialer.forget_lost()
                await news.receive()

    async def _watch_nodes(self) -> None:
        with self._bus.subscribe("chain:nodes", buffer=1) as news:
            async for _ in news:
                self.gossip.node_list_changed()


def _most_telling(group: BaseExceptionGroup[LinkClosed]) -> LinkClosed:
    """Of several tasks that met the end of one link, the one that knows a close code."""
    return max(_leaves(group), key=lambda closed: (closed.close_code != closecodes.LOST, closed.by_us))


def _leaves(group: BaseExceptionGroup[LinkClosed]) -> list[LinkClosed]:
    found: list[LinkClosed] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
