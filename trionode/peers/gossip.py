"""The gossip pipeline: from a received text to the event log and on to the other peers (wire.md §9).

The stops, each one function, each rejection counted as `gossip.<stop>.<reason>`:
intake (fair queue, random delay) -> decode -> dedupe -> verify -> age -> dispatch -> relay. Up to
the age check everything is synchronous and inline, in slices with a checkpoint after each; what
follows is `peers.dispatch`. As wire.md §14 recommends, only verified envelopes occupy the dedupe
cache and are served on request.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import msgspec
import trio

from trionode.config.tree import GossipSettings
from trionode.errors import WireError
from trionode.peers.badmessages import WrongKey
from trionode.peers.broadcast import Broadcaster
from trionode.peers.cache import ExpiringMap, MessageCache
from trionode.peers.closecodes import bad_origin
from trionode.peers.dispatch import APP_STATE_TYPES, QUESTION_TYPES, Dispatcher
from trionode.peers.facts import NetworkFacts
from trionode.peers.intake import FairIntake, Item
from trionode.peers.inventory import Ask, Inventory
from trionode.peers.outbox import Tier
from trionode.peers.outgoing import Forms, Outgoing
from trionode.peers.peer import Peer
from trionode.peers.table import PeerTable
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.envelope import Envelope, decode_envelope
from trionode.wire.frames import NAK_STALE, Frame, HashRequest, Nak
from trionode.wire.nodelist import NodeList
from trionode.wire.origin import OriginVerdict, verify_envelope
from trionode.wire.textframe import classify, parse_body

log = get_logger("peers.gossip")


SLICE_S = 0.005
LONG_TEXT = 16 * 1024
"""Texts longer than this are looked at more carefully before anything costly is done with them."""

CACHE_CHARS = 32 * 1024 * 1024
"""Message text that is kept for requests: a thousand lists of 200 apps."""

HEAD_CHARS = 512
_HEAD_KEY = re.compile(r'"pubKey":"([0-9a-f]{66}|[0-9a-f]{130})"').search
REPLY_REUSE_S = 0.1
BAD_ORIGIN_REASON = "too many bad messages"


class _Copy(msgspec.Struct, frozen=True):
    """All of an envelope that is not covered by its content hash, and the hash."""

    data_hash: str
    version: str
    timestamp: str
    pub_key: str
    signature: str


def _copy_of(envelope: Envelope) -> _Copy:
    return _Copy(
        envelope.data_hash,
        repr(envelope.version),
        repr(envelope.timestamp),
        envelope.pub_key,
        envelope.signature,
    )


class Gossip:
    """Judges what peers send and passes on what is verified, fresh and new.

    `on_frame` takes peer-level messages that arrived as JSON text.
    """

    def __init__(
        self,
        settings: GossipSettings,
        *,
        dispatcher: Dispatcher,
        facts: NetworkFacts,
        table: PeerTable,
        broadcaster: Broadcaster,
        forms: Forms,
        counters: Counters,
        clock: WallClock,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._dispatcher = dispatcher
        self._facts = facts
        self._table = table
        self._broadcaster = broadcaster
        self._forms = forms
        self._counters = counters
        self._clock = clock
        self._rng = rng
        self._intake = FairIntake(settings.intake_queue_messages, settings.intake_queue_bytes)
        self._inventory = Inventory(settings.hash_request_timeout_s)
        # Of an author whose clock is ahead a message stays acceptable longer: who replays it then must not
        # have it relayed a second time.
        acceptable_s = (settings.max_age_ms + settings.max_future_ms) / 1000
        remembered_s = max(settings.cache_ttl_s, acceptable_s)
        self._cache = MessageCache(settings.cache_entries, remembered_s, CACHE_CHARS)
        # Many nodes ask for the same messages in the same words, and each of them needs the answer.
        self._questions: ExpiringMap[tuple[str, str], bool] = ExpiringMap(
            settings.cache_entries, remembered_s
        )
        self._refused: ExpiringMap[_Copy, tuple[OriginVerdict, NodeList]] = ExpiringMap(
            settings.cache_entries, settings.cache_ttl_s
        )
        self._unlisted: ExpiringMap[str, NodeList] = ExpiringMap(settings.cache_entries, settings.cache_ttl_s)
        self._replies: ExpiringMap[str, Outgoing] = ExpiringMap(64, REPLY_REUSE_S)
        self._wake_at_s = float("inf")
        self._news = trio.Event()
        dispatcher.on_room(lambda: self._news.set())
        self.on_frame: Callable[[Peer, Frame], None] | None = None

    @property
    def cached_chars(self) -> int:
        """Text of the messages kept for requests."""
        return self._cache.chars

    # --- the way in -------------------------------------------------------------------------

    def offer(self, peer: Peer, body: str) -> None:
        """Queue a received text; never waits. Full queues cost those who filled them."""
        settings = self._settings
        delay_ms = self._rng.randint(settings.intake_delay_min_ms, settings.intake_delay_max_ms)
        due_s = trio.current_time() + delay_ms / 1000
        dropped = self._intake.put(Item(peer, body, len(body), due_s))
        if dropped is not None:
            self._count("intake", "queue_full")
        if due_s < self._wake_at_s:
            self._news.set()

    def present(self, peer: Peer, hash_hex: str) -> None:
        """A peer has announced a message (wire.md §9 Inventory)."""
        now_s = trio.current_time()
        if self._cache.get(hash_hex, now_s) is not None:
            return
        if self._unlisted.get(hash_hex, now_s) is self._facts.nodes:
            return
        first = not len(self._inventory)
        self._ask(self._inventory.announced(hash_hex, peer.key, now_s))
        if first and now_s + self._settings.hash_request_timeout_s < self._wake_at_s:
            self._news.set()

    def requested(self, peer: Peer, hash_hex: str) -> None:
        """A peer asks for a message: the stored envelope, unchanged, or silence."""
        now_s = trio.current_time()
        envelope = self._cache.get(hash_hex, now_s)
        if envelope is None:
            self._counters.add("gossip.inventory.not_cached")
            return
        reply = self._replies.get(hash_hex, now_s)
        if reply is None:
            reply = self._forms.text(envelope.text)
            self._replies.put(hash_hex, reply, now_s)
        reply.send(peer, Tier.REPLY)

    def peer_gone(self, peer: Peer) -> None:
        """What was asked of this peer is asked of another announcer."""
        for ask in self._inventory.gone(peer.key, trio.current_time()):
            self._ask(ask)

    def node_list_changed(self) -> None:
        """Refusals because of the old list are forgotten, wrong keys it explains are forgiven."""
        self._inventory.lists_changed()
        nodes = self._facts.nodes

        def agrees(claim: WrongKey) -> bool:
            entry = nodes.by_address(claim.address)
            return entry is not None and entry.pubkey == claim.public_key

        for peer in self._table:
            forgiven = peer.bad.forgive(agrees)
            if forgiven:
                self._counters.add("gossip.verify.key_mismatch_forgiven", forgiven)

    def own(self, envelope: Envelope, *, at_once: bool = False) -> int:
        """Broadcast an envelope of ours to all peers, paced unless `at_once`; how many peers there are.

        It is also cached, so that announcements of it by others are not fetched back.
        """
        self._cache.put(envelope.data_hash, envelope, trio.current_time())
        if at_once:
            return self._broadcaster.at_once(envelope.text)
        return self._broadcaster.paced(envelope.text)

    async def run(self) -> None:
        """Work until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._dispatcher.run)
            await self._work_off_intake()

    async def _work_off_intake(self) -> None:
        while True:
            self._news = trio.Event()
            now_s = trio.current_time()
            for ask in self._inventory.overdue(now_s):
                self._counters.add("gossip.inventory.timeout")
                self._ask(ask)
            room = self._judge_slice(now_s)
            if not room:
                await trio.lowlevel.checkpoint()
                if self._dispatcher.full:
                    await self._news.wait()
                continue
            times_s = (self._intake.next_due_s(), self._inventory.next_deadline_s())
            self._wake_at_s = min((at_s for at_s in times_s if at_s is not None), default=float("inf"))
            with trio.move_on_at(self._wake_at_s):
                await self._news.wait()
            self._wake_at_s = float("-inf")

    def _judge_slice(self, now_s: float) -> bool:
        """Judge what is due; False if the slice ended before the queue did."""
        for _ in range(self._settings.verify_slice):
            if self._dispatcher.full:
                return False
            item = self._intake.take(now_s)
            if item is None:
                return True
            self._judge(item)
            if trio.current_time() - now_s > SLICE_S:
                return False
        return False

    # --- the stops --------------------------------------------------------------------------

    def _judge(self, item: Item) -> None:
        """Decode, dedupe, verify and age stops of one text."""
        peer = item.peer
        if peer.outbox.closing is not None:
            self._count("intake", "closing")
            return
        is_long = item.size > LONG_TEXT
        if is_long and not self._is_by_a_node(item.body):
            return
        envelope = self._decode(peer, item.body)
        if envelope is None:
            return
        now_s = trio.current_time()
        if is_long:
            # Hashing a long text can cost more than its signature check: nothing unverified gets there.
            verdict = self._verify(envelope)
            if verdict is not OriginVerdict.OK:
                self._blame(peer, envelope, verdict, now_s)
                return
        if self._is_known(peer, envelope, now_s):
            return
        if not is_long:
            verdict = self._verify(envelope)
            if verdict is not OriginVerdict.OK:
                self._refuse(peer, envelope, verdict, now_s)
                return
        data_hash = envelope.data_hash
        self._cache.put(data_hash, envelope, now_s)
        if envelope.type in QUESTION_TYPES:
            self._questions.put((data_hash, envelope.pub_key), True, now_s)
        self._inventory.resolved(data_hash)
        if self._clock.now_ms() >= envelope.timestamp_ms + self._settings.max_age_ms:
            self._count("age", "stale")
            if not peer.ephemeral:
                self._forms.frame(Nak(data_hash, NAK_STALE)).send(peer, Tier.REPLY)
            return
        self._dispatcher.put(envelope, peer)

    def _is_by_a_node(self, text: str) -> bool:
        """Whether a long text, unparsed, names a listed key near its start, as all nodes write it.

        Parsing and hashing a long text takes up to a tenth of a second, which strangers may not
        make us spend.
        """
        found = _HEAD_KEY(text, 0, HEAD_CHARS)
        if found is None:
            self._count("decode", "long_without_key")
            return False
        if not self._facts.nodes.has_pubkey(found[1]):
            self._count("verify", "node_not_found")
            return False
        return True

    def _is_known(self, peer: Peer, envelope: Envelope, now_s: float) -> bool:
        """The dedupe stop: a verified message we have, or a copy refused before."""
        data_hash = envelope.data_hash
        if envelope.type in QUESTION_TYPES:
            known = self._questions.get((data_hash, envelope.pub_key), now_s) is not None
        else:
            known = self._cache.get(data_hash, now_s) is not None
        if known:
            self._inventory.resolved(data_hash)
            self._count("dedupe", "duplicate")
            return True
        before = self._refused.get(_copy_of(envelope), now_s)
        if before is None or (
            before[0] is not OriginVerdict.BAD_SIGNATURE and before[1] is not self._facts.nodes
        ):
            return False
        self._ask(self._inventory.refused(data_hash, peer.key, now_s))
        self._count("dedupe", "refused_copy")
        return True

    def _verify(self, envelope: Envelope) -> OriginVerdict:
        return verify_envelope(
            envelope, self._facts.nodes, self._clock.now_ms(), max_future_ms=self._settings.max_future_ms
        )

    def _decode(self, peer: Peer, text: str) -> Envelope | None:
        try:
            body = parse_body(text)
            message = classify(body)
        except WireError:
            self._count("decode", "malformed")
            peer.close_invalid()
            return None
        if not isinstance(message, dict):
            if self.on_frame is not None:
                self.on_frame(peer, message)
            return None
        try:
            envelope = decode_envelope(message)
        except WireError:
            self._count("decode", "not_an_envelope")
            peer.close_invalid()
            return None
        if not envelope.has_integer_timestamp:
            # Older nodes accept and announce such a message, so its bearer is not to blame.
            self._count("decode", "timestamp_not_integer")
            return None
        return envelope

    def _refuse(self, peer: Peer, envelope: Envelope, verdict: OriginVerdict, now_s: float) -> None:
        """Remember a copy that failed the verify stop, and try another announcer."""
        data_hash, nodes = envelope.data_hash, self._facts.nodes
        self._refused.put(_copy_of(envelope), (verdict, nodes), now_s)
        if verdict is OriginVerdict.NODE_NOT_FOUND and envelope.type in APP_STATE_TYPES:
            # The address is part of the content: no other copy can do better under this list.
            self._unlisted.put(data_hash, nodes, now_s)
            self._inventory.resolved(data_hash)
        else:
            self._ask(self._inventory.refused(data_hash, peer.key, now_s))
        self._blame(peer, envelope, verdict, now_s)

    def _blame(self, peer: Peer, envelope: Envelope, verdict: OriginVerdict, now_s: float) -> None:
        """Count the rejection, and charge its bearer where wire.md §9.6 does."""
        self._count("verify", verdict.value.replace(" ", "_"))
        if not verdict.is_bad_message:
            return
        claim = None
        if verdict is OriginVerdict.KEY_MISMATCH:
            if not self._facts.synced:
                # Our own list may be old; judging others by it would cut off the up-to-date ones.
                self._counters.add("gossip.verify.key_mismatch_unsynced")
                return
            address = envelope.data.get("oldIP" if envelope.type == "fluxipchanged" else "ip")
            claim = WrongKey(str(address), envelope.pub_key)
        if peer.bad.add(now_s, claim):
            self._counters.add("peers.bad_origin_closed")
            log.info("peer closed", peer=peer.key, reason=BAD_ORIGIN_REASON, last=verdict.value)
            peer.close(bad_origin(peer.direction), BAD_ORIGIN_REASON)

    def _ask(self, ask: Ask | None) -> None:
        while ask is not None:
            peer = self._table.get(ask.peer)
            if peer is not None:
                self._forms.frame(HashRequest(ask.hash)).send(peer, Tier.GOSSIP)
                return
            ask = self._inventory.refused(ask.hash, ask.peer, trio.current_time())

    def _count(self, stop: str, reason: str) -> None:
        self._counters.add(f"gossip.{stop}.{reason}")
