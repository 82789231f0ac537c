"""What must hold after every event of every run, whatever the faults.

- Nothing unverified is stored: every signed document a node commits carries a good signature by the
  key that the chain lists for its address.
- The index equals a fold of the log: after a commit, the locations of the touched addresses are what
  `appstate.view` (the oracle) gives for the stored documents; at intervals all of them are compared.
- A message is relayed at most once over a link: one announcement per hash, one full text unless the
  other side asked for another one, by its hash or for the app message in it.
- A question for app messages is not repeated over a link while the other side would drop it unread.

Each check is an independent reimplementation, so a defect of the node cannot hide itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import trio

from trionode.appstate.changes import Change, PutCopy, PutEvent
from trionode.appstate.documents import (
    APPREMOVED,
    APPRUNNING,
    EVICTED,
    IPCHANGED,
    SIGTERM,
    EventRow,
    Signed,
)
from trionode.appstate.view import Document, view
from trionode.errors import TrionodeError, WireError
from trionode.sim.link import VirtualLink
from trionode.sim.message import VirtualMessage
from trionode.wire.envelope import Envelope, decode_envelope
from trionode.wire.jsjson import parse
from trionode.wire.jsnumber import number_text
from trionode.wire.signing import verify_message
from trionode.wire.syncmsg import KINDS

HASH_PRESENT, HASH_REQUEST = 0x01, 0x02
QUESTION = "fluxapprequest"
ANSWERS = frozenset({"fluxappregister", "fluxappupdate", "zelappregister", "zelappupdate"})
FORGOTTEN_S = 300.0
"""A node drops what has the content of a message that it has seen since (docs/spec/wire.md §9.3)."""

SIGNED_TYPES = {
    APPRUNNING: "fluxapprunning",
    APPREMOVED: "fluxappremoved",
    SIGTERM: "fluxnodesigterm",
    IPCHANGED: "fluxipchanged",
}


class InvariantViolation(TrionodeError):
    """A node broke a rule that must hold in every run."""

    code = "invariant"


Violate = Callable[[str, str], None]
"""(node, what went wrong): notes the first violation and ends the run."""


class StoredContent:
    """Signatures and listed keys of what is stored; one check per distinct document in the world."""

    def __init__(self, key_of: Callable[[str], str | None], violate: Violate) -> None:
        self._key_of = key_of
        self._violate = violate
        self._good: set[tuple[str, str, str]] = set()
        self.checked = 0

    def check(self, node: str, changes: Iterable[Change]) -> None:
        """Look at what a node is about to commit."""
        for change in changes:
            if isinstance(change, PutEvent):
                row = change.row
                if row.type != EVICTED:
                    self._check_says(node, row)
                    self._check_signed(node, f"{row.type} of {row.ip}", row.ip, row.data_text, row.signed)
            elif isinstance(change, PutCopy):
                copy = change.copy
                what = f"signed copy ({copy.kind}) of {copy.ip}"
                self._check_signed(node, what, copy.ip, copy.data_text, copy.signed)

    def _check_says(self, node: str, row: EventRow) -> None:
        """What a row says it is must be what was signed: kind, address and time."""
        data = _data(row.data_text)
        signed = (data.get("type"), data.get("oldIP" if row.type == IPCHANGED else "ip"))
        if signed != (SIGNED_TYPES[row.type], row.ip) or data.get("broadcastedAt") != row.at_ms:
            self._violate(
                node, f"stored {row.type} of {row.ip} at {row.at_ms}, but what was signed is {data}"
            )

    def _check_signed(self, node: str, what: str, ip: str, text: str | None, signed: Signed | None) -> None:
        self.checked += 1
        if text is None or signed is None:
            self._violate(node, f"stored {what} without its signed form")
            return
        seen = (signed.pub_key, signed.signature, text)
        if seen in self._good:
            return
        timestamp = signed.timestamp
        stamp = timestamp if isinstance(timestamp, str) else number_text(timestamp)
        if self._key_of(ip) != signed.pub_key:
            self._violate(node, f"stored {what}, signed by {signed.pub_key[:16]}..., not by its listed key")
        elif not verify_message(f"{signed.version}{text}{stamp}", signed.pub_key, signed.signature):
            self._violate(node, f"stored {what} with a signature that does not verify")
        else:
            self._good.add(seen)


def documents_of(rows: Iterable[EventRow]) -> list[Document]:
    """The stored events as the oracle reads them."""
    return [Document(row.type, row.ip, row.at_ms, row.expire_at_ms, _data(row.data_text)) for row in rows]


def _data(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    value = _parsed.get(text)
    if value is None:
        if len(_parsed) > 4096:
            _parsed.clear()
        found = parse(text)
        value = _parsed[text] = found if isinstance(found, dict) else {}
    return value


_parsed: dict[str, dict[str, Any]] = {}
"""Payloads by text: every node stores the same ones, and they are never changed."""

Fingerprint = list[tuple[Any, ...]]


def expected_locations(rows: Iterable[EventRow], now_ms: int, ip: str | None, grace_ms: int) -> Fingerprint:
    """What the oracle lists for the stored events, comparable with `actual_locations`."""
    return fingerprint_of(documents_of(rows), now_ms, ip, grace_ms)


def fingerprint_of(documents: Iterable[Document], now_ms: int, ip: str | None, grace_ms: int) -> Fingerprint:
    """What the oracle lists for these documents."""
    return actual_locations(view(documents, now_ms, ip=ip, grace_ms=grace_ms))


def actual_locations(rows: Iterable[Any]) -> Fingerprint:
    """Rows of a location list in a form that can be compared."""
    return sorted(
        (
            (
                row.name,
                row.hash,
                row.ip,
                row.broadcasted_at_ms,
                row.running_since,
                row.os_uptime,
                row.static_ip,
            )
            for row in rows
        ),
        key=repr,
    )


class _Text(msgspec.Struct, frozen=True):
    """What counts of a gossip text: its hash, the app messages it asks for, the one that it is."""

    digest: bytes
    wanted: tuple[str, ...] = ()
    app_hash: str | None = None


class RelayCount:
    """Announcements and full texts per message and link; a `sim.network.Monitor`.

    `name_of(ip)` is None for hosts that are no nodes: hostile ones may send what they like.
    """

    def __init__(self, name_of: Callable[[str], str | None], violate: Violate) -> None:
        self._name_of = name_of
        self._violate = violate
        self._announced: dict[int, set[bytes]] = {}
        self._texts: dict[int, dict[bytes, int]] = {}
        self._requests: dict[int, dict[bytes | str, int]] = {}
        self._questions: dict[int, dict[bytes, float]] = {}
        self._known: dict[int, _Text | None] = {}
        self.count = 0

    def sent(self, sender: VirtualLink, message: VirtualMessage) -> None:
        payload = message.payload
        if isinstance(payload, bytes) and len(payload) >= 21 and payload[0] == HASH_REQUEST:
            self._asked(sender, payload[1:21])
            return
        name = self._name_of(sender.local_ip)
        if name is None:
            if isinstance(payload, str) and QUESTION in payload and (text := self._text_of(message)):
                for hash_ in text.wanted:
                    self._asked(sender, hash_)
            return
        self.count += 1
        if isinstance(payload, bytes):
            if len(payload) < 21:
                return
            if payload[0] == HASH_PRESENT:
                announced = self._announced.get(sender.id)
                if announced is None:
                    announced = self._announced[sender.id] = set()
                if payload in announced:
                    what = f"announced {payload[1:21].hex()} twice over the link to {sender.remote_ip}"
                    self._violate(name, what)
                announced.add(payload)
            return
        text = self._text_of(message)
        if text is None:
            return
        if text.wanted:
            self._question(name, sender, text)
            return
        digest = text.digest
        texts = self._texts.setdefault(sender.id, {})
        texts[digest] = texts.get(digest, 0) + 1
        requests = self._requests.get(sender.id, {})
        asked_for = requests.get(digest, 0)
        if text.app_hash is not None:
            asked_for += requests.get(text.app_hash, 0)
        if texts[digest] > 1 + asked_for:
            what = (
                f"sent {digest.hex()} {texts[digest]} times over the link to {sender.remote_ip}, "
                f"which asked {asked_for} times"
            )
            self._violate(name, what)

    def _question(self, name: str, sender: VirtualLink, text: _Text) -> None:
        """A request for app messages: no relay, but worth nothing while it is remembered."""
        for hash_ in text.wanted:
            self._asked(sender, hash_)
        questions = self._questions.setdefault(sender.id, {})
        now_s = trio.current_time()
        before_s = questions.get(text.digest)
        if before_s is not None and now_s - before_s < FORGOTTEN_S:
            what = (
                f"asked {sender.remote_ip} for the same {len(text.wanted)} app messages again after "
                f"{now_s - before_s:.1f} s, which drops that unread"
            )
            self._violate(name, what)
        questions[text.digest] = now_s

    def _asked(self, sender: VirtualLink, what: bytes | str) -> None:
        # Kept with the end that is asked, which may answer after the asking end is closed.
        asked = self._requests.setdefault(sender.other.id, {})
        # Where the network doubles messages, one request may rightly be answered twice.
        asked[what] = asked.get(what, 0) + (2 if sender.conditions.duplicate else 1)

    def closed(self, link_id: int) -> None:
        for counts in (self._announced, self._texts, self._requests, self._questions):
            counts.pop(link_id, None)

    def _text_of(self, message: VirtualMessage) -> _Text | None:
        """What counts of a gossip text, None for anything else."""
        mark = message.mark
        if mark in self._known:
            return self._known[mark]
        if len(self._known) > 20_000:
            self._known.clear()
        payload = message.payload
        text: _Text | None = None
        if isinstance(payload, str):
            body = payload[payload.find("|") + 1 :] if payload.startswith("T") else payload
            try:
                text = _read_text(decode_envelope(parse(body)))
            except WireError:
                text = None
        self._known[mark] = text
        return text


def _read_text(envelope: Envelope) -> _Text | None:
    if envelope.type in KINDS:
        # Sync answers are no relays: two empty ones are the same message.
        return None
    digest, data = bytes.fromhex(envelope.data_hash), envelope.data
    if envelope.type == QUESTION:
        hashes = data.get("hashes", [data.get("hash")])
        if isinstance(hashes, list):
            return _Text(digest, wanted=tuple(hash_ for hash_ in hashes if isinstance(hash_, str)))
    hash_ = data.get("hash")
    return _Text(digest, app_hash=hash_ if envelope.type in ANSWERS and isinstance(hash_, str) else None)
