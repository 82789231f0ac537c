"""PeerService: everything between the links and the event log, as one supervised service.

It composes admission, table, discovery, liveness, exchange and gossip (wire.md §2-§6, §9) and is
what other rooms use of them. Outbound peers live in its own nursery, inbound ones in tasks of the
front door; all links end when it stops.
"""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

import trio

from trionode.config.tree import Settings
from trionode.errors import PeerError
from trionode.peers import admission, closecodes
from trionode.peers.broadcast import Broadcaster
from trionode.peers.closecodes import Direction
from trionode.peers.dialer import Dialer
from trionode.peers.discovery import Source, Target
from trionode.peers.dispatch import Dispatcher, Ledger, MessageHandler
from trionode.peers.exchange import PendingChanges, Topology
from trionode.peers.facts import NetworkFacts
from trionode.peers.gossip import Gossip
from trionode.peers.link import InboundRequest, PeerTransport
from trionode.peers.links import Links
from trionode.peers.liveness import Liveness
from trionode.peers.outbox import Tier
from trionode.peers.outgoing import Forms
from trionode.peers.peer import Peer
from trionode.peers.receive import Receiver
from trionode.peers.role import MEMBER, Role
from trionode.peers.table import PeerTable
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.address import peer_key
from trionode.wire.envelope import Envelope, seal
from trionode.wire.frames import Frame, PeerExchange
from trionode.wire.jsjson import JsValue
from trionode.wire.keys import NodeKey

log = get_logger("peers")


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
        key: NodeKey | None,
        role: Role = MEMBER,
    ) -> None:
        self._settings = settings.peers
        self._network = settings.network
        self._facts = facts
        self._bus = bus
        self._clock = clock
        self._key = key
        self._role = role
        self._changes = PendingChanges()
        self._changed = trio.Event()
        self.table = PeerTable(self._settings, bus, clock)
        self.table.on_change(self._on_change)
        self.topology = Topology(self._accepts_reported)
        self.forms = Forms(transport, clock, role)
        self.broadcaster = Broadcaster(self._settings, self.table, self.forms, counters)
        self._dispatcher = Dispatcher(
            ledger=log,
            facts=facts,
            broadcaster=self.broadcaster,
            counters=counters,
            clock=clock,
            hash_relay_height=settings.network.hash_relay_height,
        )
        self.gossip = Gossip(
            settings.gossip,
            dispatcher=self._dispatcher,
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
            own_clock_offset_ms=lambda: self.links.clock_offset_ms,
        )
        self.links = Links(
            settings,
            transport=transport,
            facts=facts,
            table=self.table,
            receiver=self.receiver,
            counters=counters,
            clock=clock,
            known_nodes=lambda: self.dialer.known_nodes,
            on_open=self._on_open,
            on_over=self.gossip.peer_gone,
            on_lost=self._on_lost,
            role=role,
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
            hello=self.links.hello,
            own_port=self.links.dial_path_port,
            host=self.links.host_dialled,
            role=role,
        )
        self._liveness = Liveness(self._settings, self.table, counters)

    # --- what other rooms use ---------------------------------------------------------------

    def broadcast_own(self, data: dict[str, JsValue]) -> Envelope:
        """Sign a message with the node key and send it to all peers, paced (wire.md §9).

        The caller applies it to the own log; whether the network will accept it is told by
        `NetworkFacts.can_send`. Raises PeerError without a key.
        """
        envelope = self.seal(data)
        self.broadcast_envelope(envelope)
        return envelope

    def seal(self, data: dict[str, JsValue]) -> Envelope:
        """Sign a message with the node key, without sending it. Raises PeerError without a key."""
        if self._key is None:
            raise PeerError("this process has no key and signs nothing", remedy="run a node to send messages")
        return seal(data, self._key, self._clock.now_ms())

    def broadcast_envelope(self, envelope: Envelope) -> int:
        """The same for an envelope sealed before; how many peers it goes to."""
        return self.gossip.own(envelope)

    def broadcast_last(self, data: dict[str, JsValue]) -> Envelope:
        """`broadcast_own` for a node that leaves: no pacing, and no peer is spared for being slow."""
        envelope = self.seal(data)
        self.gossip.own(envelope, at_once=True)
        return envelope

    async def flushed(self) -> None:
        """Wait until everything queued for the peers is on its way; may wait long for one that is slow."""
        await self.broadcaster.flushed()

    def register_handler(self, message_type: str, handler: MessageHandler) -> None:
        """Let another room take verified envelopes of one gossip type; see `Dispatcher`."""
        self._dispatcher.register_handler(message_type, handler)

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

    def live_links(self, since_ms: int) -> int:
        """Links that were made, or answered a ping, after that moment."""
        return sum(max(peer.connected_at_ms, peer.pinger.last_pong_ms or 0) > since_ms for peer in self.table)

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

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, then close every link (1001)."""
        self.links.start()
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
            with trio.CancelScope(shield=True):
                await self.links.stop()

    def ephemeral(self, ip: str, port: int) -> AbstractAsyncContextManager[Peer]:
        """A short link for one purpose: `async with service.ephemeral(ip, port) as peer`."""
        return self.links.ephemeral(ip, port)

    async def handle_inbound(self, request: InboundRequest) -> None:
        """Admit one upgrade request and serve the link until its end; called by the front door."""
        await self.links.handle_inbound(request)

    # --- own side ---------------------------------------------------------------------------

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

    def _on_open(self, peer: Peer) -> None:
        self.dialer.connected(peer.key)
        if peer.takes_exchange:
            self.send_frame(peer, self._all_peers_but(peer))

    def _on_lost(self, peer: Peer) -> None:
        redial = peer.direction == "outbound" and closecodes.dialler_redials(peer.close_code)
        if redial and self.links.accepting and self._role.is_member:
            self.dialer.lost(peer.ip, peer.port)

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
                if not self._role.may_link(self._facts):
                    for peer in self.table:
                        peer.close(closecodes.UNCONFIRMED, "node unconfirmed")
                    self.dialer.forget_lost()
                await news.receive()

    async def _watch_nodes(self) -> None:
        with self._bus.subscribe("chain:nodes", buffer=1) as news:
            async for _ in news:
                self.gossip.node_list_changed()
