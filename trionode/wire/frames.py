"""Binary frames 0x01-0x23, both ways (docs/spec/wire.md §6).

Reading is total: `decode_frame` answers None for anything the network ignores and never raises.
"""

from __future__ import annotations

import binascii
from struct import Struct as Layout
from typing import TypeAlias

import msgspec

from trionode.errors import WireError
from trionode.wire.address import is_ipv4
from trionode.wire.jsnumber import number_text
from trionode.wire.keys import NodeKey
from trionode.wire.signing import decode_base64, verify_message

HASH_PRESENT = 0x01
HASH_REQUEST = 0x02
NAK = 0x03
PEER_EXCHANGE = 0x10
PEER_UPDATE = 0x11
SYNC_TEMP = 0x20
SYNC_RUNNING = 0x21
SYNC_INSTALLING = 0x22
SYNC_INSTALL_ERRORS = 0x23
SYNC_KINDS = (SYNC_TEMP, SYNC_RUNNING, SYNC_INSTALLING, SYNC_INSTALL_ERRORS)

NAK_STALE, NAK_DUPLICATE, NAK_INVALID = 0, 1, 2
NAK_NAMES = ("stale", "duplicate", "invalid")
NAK_UNKNOWN = 255

_EXCHANGE_HEAD = Layout(">BHH")
_UPDATE_HEAD = Layout(">BHHH")
_SYNC_HEAD = Layout(">BQQ")
_PEER = Layout(">4BH")
_MAX_PEERS = 0xFFFF


class HashPresent(msgspec.Struct, frozen=True):
    """ "I have the message with this content hash" (40 hex digits)."""

    hash: str


class HashRequest(msgspec.Struct, frozen=True):
    """ "Send me the message with this content hash" (40 hex digits)."""

    hash: str


class Nak(msgspec.Struct, frozen=True):
    """A message was refused; `reason` is 0 stale, 1 duplicate, 2 invalid, anything else unknown."""

    hash: str
    reason: int = NAK_STALE

    @property
    def reason_name(self) -> str:
        return NAK_NAMES[self.reason] if 0 <= self.reason < len(NAK_NAMES) else f"unknown ({self.reason})"


class PeerExchange(msgspec.Struct, frozen=True):
    """All peers of the sender as "ip:port", by the sender's direction."""

    outbound: tuple[str, ...] = ()
    inbound: tuple[str, ...] = ()


class PeerUpdate(msgspec.Struct, frozen=True):
    """Net changes of the sender's peers since its last exchange or update."""

    add_outbound: tuple[str, ...] = ()
    add_inbound: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class SyncRequest(msgspec.Struct, frozen=True):
    """A signed request for one kind of state (§11); times in ms, `signature` Base64 of the raw bytes."""

    kind: int
    since_ms: int
    request_ms: int
    public_key: str
    signature: str

    @property
    def preimage(self) -> str:
        """The text that is signed."""
        return sync_preimage(self.kind, self.since_ms, self.request_ms)

    def is_signed(self) -> bool:
        """Whether the signature is by `public_key` (who may ask is for the caller to judge)."""
        return verify_message(self.preimage, self.public_key, self.signature)


Frame: TypeAlias = HashPresent | HashRequest | Nak | PeerExchange | PeerUpdate | SyncRequest


def sync_preimage(kind: int, since_ms: int, request_ms: int) -> str:
    """Decimal texts without separators; times as doubles print, so beyond 2**53 they are rounded."""
    return f"{kind}{number_text(since_ms)}{number_text(request_ms)}"


def sync_request(kind: int, since_ms: int, request_ms: int, key: NodeKey) -> SyncRequest:
    """Build and sign a sync request. Raises WireError for a kind outside 0x20-0x23."""
    if kind not in SYNC_KINDS:
        raise WireError(f"0x{kind:02x} is no sync request", remedy="use one of SYNC_KINDS")
    signature = key.sign(sync_preimage(kind, since_ms, request_ms))
    return SyncRequest(kind, since_ms, request_ms, key.public_key, signature)


# ---- reading ---------------------------------------------------------------------------------------


def decode_frame(data: bytes) -> Frame | None:
    """Read one binary message; None means: ignore it (unknown opcode, too short, malformed)."""
    if not data:
        return None
    op = data[0]
    if op in (HASH_PRESENT, HASH_REQUEST):
        if len(data) < 21:
            return None
        name = data[1:21].hex()
        return HashPresent(name) if op == HASH_PRESENT else HashRequest(name)
    if op == NAK:
        return Nak(data[1:21].hex(), data[21]) if len(data) >= 22 else None
    if op == PEER_EXCHANGE:
        if len(data) < _EXCHANGE_HEAD.size:
            return None
        _, out_count, in_count = _EXCHANGE_HEAD.unpack_from(data)
        return PeerExchange(*_peer_lists(data, _EXCHANGE_HEAD.size, (out_count, in_count)))
    if op == PEER_UPDATE:
        if len(data) < _UPDATE_HEAD.size:
            return None
        _, out_count, in_count, rm_count = _UPDATE_HEAD.unpack_from(data)
        return PeerUpdate(*_peer_lists(data, _UPDATE_HEAD.size, (out_count, in_count, rm_count)))
    if op in SYNC_KINDS:
        return _sync_request(data)
    return None


def _peer_lists(data: bytes, start: int, counts: tuple[int, ...]) -> list[tuple[str, ...]]:
    if start + _PEER.size * sum(counts) > len(data):
        return [()] * len(counts)
    lists = []
    for count in counts:
        end = start + _PEER.size * count
        peers = [f"{a}.{b}.{c}.{d}:{port}" for a, b, c, d, port in _PEER.iter_unpack(data[start:end])]
        lists.append(tuple(peers))
        start = end
    return lists


def _sync_request(data: bytes) -> SyncRequest | None:
    if len(data) < 19:
        return None
    kind, since, requested = _SYNC_HEAD.unpack_from(data)
    key_end = 18 + data[17]
    if key_end == 18 or len(data) <= key_end:
        return None
    signature_end = key_end + 1 + data[key_end]
    if signature_end == key_end + 1 or len(data) < signature_end:
        return None
    # times are doubles to every other node, so they are to us
    return SyncRequest(
        kind,
        int(float(since)),
        int(float(requested)),
        data[18:key_end].hex(),
        binascii.b2a_base64(data[key_end + 1 : signature_end], newline=False).decode(),
    )


# ---- writing ---------------------------------------------------------------------------------------


def encode_frame(frame: Frame) -> bytes:
    """Write one frame. Raises WireError for a value that has no binary form, naming it."""
    if isinstance(frame, HashPresent):
        return b"\x01" + _hash_bytes(frame.hash)
    if isinstance(frame, HashRequest):
        return b"\x02" + _hash_bytes(frame.hash)
    if isinstance(frame, Nak):
        return b"\x03" + _hash_bytes(frame.hash) + _byte(frame.reason, "NAK reason")
    if isinstance(frame, PeerExchange):
        lists = (frame.outbound, frame.inbound)
        return _EXCHANGE_HEAD.pack(PEER_EXCHANGE, *_counts(lists)) + _peer_bytes(lists)
    if isinstance(frame, PeerUpdate):
        updates = (frame.add_outbound, frame.add_inbound, frame.removed)
        return _UPDATE_HEAD.pack(PEER_UPDATE, *_counts(updates)) + _peer_bytes(updates)
    return _sync_bytes(frame)


def _byte(value: int, what: str) -> bytes:
    if not 0 <= value <= 255:
        raise WireError(f"{what} {value} does not fit a byte", remedy="use 0 to 255")
    return bytes((value,))


def _hash_bytes(name: str) -> bytes:
    try:
        raw = bytes.fromhex(name)
    except ValueError:
        raw = b""
    if len(raw) != 20 or len(name) != 40:
        raise WireError(f"{name!r} is no content hash", remedy="a content hash is 40 hex digits")
    return raw


def _counts(lists: tuple[tuple[str, ...], ...]) -> list[int]:
    counts = [len(peers) for peers in lists]
    if max(counts) > _MAX_PEERS:
        raise WireError(f"{max(counts)} peers in one frame", remedy=f"send at most {_MAX_PEERS} per list")
    return counts


def _peer_bytes(lists: tuple[tuple[str, ...], ...]) -> bytes:
    return b"".join([_one_peer(peer) for peers in lists for peer in peers])


def _one_peer(peer: str) -> bytes:
    ip, _, port_text = peer.partition(":")
    port = int(port_text) if port_text.isascii() and port_text.isdigit() and len(port_text) < 6 else -1
    if not is_ipv4(ip) or not 0 <= port <= 65535:
        raise WireError(f"{peer!r} is no ipv4:port", remedy="peer frames carry IPv4 peers with their port")
    return _PEER.pack(*map(int, ip.split(".")), port)


def _sync_bytes(request: SyncRequest) -> bytes:
    try:
        key = bytes.fromhex(request.public_key)
    except ValueError:
        key = b""
    signature = decode_base64(request.signature)
    if not 0 < len(key) <= 255 or not 0 < len(signature) <= 255:
        raise WireError("sync request without usable key or signature", remedy="make it with sync_request()")
    if request.kind not in SYNC_KINDS:
        raise WireError(f"0x{request.kind:02x} is no sync request", remedy="use one of SYNC_KINDS")
    if not (0 <= request.since_ms < 2**64 and 0 <= request.request_ms < 2**64):
        raise WireError("sync request time outside 64 bits", remedy="send milliseconds since 1970")
    head = _SYNC_HEAD.pack(request.kind, request.since_ms, request.request_ms)
    return b"".join((head, bytes((len(key),)), key, bytes((len(signature),)), signature))
