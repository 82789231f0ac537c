"""permessage-deflate without context takeover, with a bounded inflate (wire.md §1).

Three things: the negotiation as texts, compression of one message, and `MessageGuard`, the wsproto
extension that every link carries: it refuses a message the moment it would exceed the cap, whether
that shows in a frame header or only while inflating.
"""

from __future__ import annotations

import zlib

import msgspec
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from trionode.errors import WireError

MAX_WINDOW_BITS = 15
SMALLEST_ZLIB_WINDOW_BITS = 9
"""zlib cannot write raw streams of an 8-bit window; such a link gets our messages uncompressed."""

OFFER = (
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
    "server_max_window_bits=15; client_max_window_bits=15"
)
EPHEMERAL_OFFER = "permessage-deflate; client_max_window_bits"

_BULK_BYTES = 16 * 1024
_FLUSH_TAIL = b"\x00\x00\xff\xff"
_NAME = "permessage-deflate"
_FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
_BITS = ("server_max_window_bits", "client_max_window_bits")


class Agreement(msgspec.Struct, frozen=True):
    """What both sides agreed on, seen from our side.

    `send_window_bits`: largest window we may compress with, 0 = we send nothing compressed.
    `remote_keeps_context`: the other side may refer to its earlier messages.
    """

    send_window_bits: int = MAX_WINDOW_BITS
    remote_keeps_context: bool = False


def _parameters(text: str) -> dict[str, int | None]:
    """Parameters of one extension entry; WireError for anything RFC 7692 does not know."""
    found: dict[str, int | None] = {}
    for part in text.split(";")[1:]:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        name = name.lower()
        value = value.strip('"')
        if name in found:
            raise WireError(f"extension parameter {name} appears twice in {text!r}")
        if (name in _FLAGS and not equals) or (name in _BITS and not equals):
            found[name] = None
        elif name in _BITS and value.isascii() and value.isdigit() and 8 <= int(value[:3]) <= MAX_WINDOW_BITS:
            found[name] = int(value)
        else:
            raise WireError(f"extension parameter {part.strip()!r} is not known to permessage-deflate")
    return found


def _entries(header: str) -> list[str]:
    return [entry.strip() for entry in header.split(",") if entry.split(";")[0].strip().lower() == _NAME]


def answer_offer(header: str | None) -> tuple[str, Agreement] | None:
    """The server's answer to a `Sec-WebSocket-Extensions` request header, or None to answer nothing.

    The first offer that can be met wins; an offer with unknown parameters is passed over.
    """
    for entry in _entries(header or ""):
        try:
            offered = _parameters(entry)
        except WireError:
            # RFC 7692 §7: a server declines an offer it does not understand; the next may do
            continue
        server_bits = offered.get("server_max_window_bits")
        if "server_max_window_bits" in offered and server_bits is None:
            continue
        # In the order of the offer, flags that were not offered last, as the network answers
        answer = _NAME
        for name in (*offered, *(flag for flag in _FLAGS if flag not in offered)):
            if name in _FLAGS:
                answer += f"; {name}"
            elif offered[name] is not None:
                answer += f"; {name}={offered[name]}"
        return answer, Agreement(send_window_bits=_usable(server_bits))
    return None


def accept_answer(header: str | None, offer: str) -> Agreement | None:
    """What a server's answer to our `offer` means; None when it declined.

    Raises WireError for an answer that does not fit the offer: the dialler must fail the link.
    """
    if not header or not header.strip():
        return None
    entries = _entries(header)
    if len(entries) != 1 or "," in header:
        raise WireError(f"server chose extensions {header!r}, offered was only {_NAME}")
    chosen = _parameters(entries[0])
    if any(name in chosen and chosen[name] is None for name in _BITS):
        raise WireError(f"server answered a window size without a value: {header!r}")
    asked = _parameters(offer)
    if "server_no_context_takeover" in asked and "server_no_context_takeover" not in chosen:
        raise WireError("server did not confirm server_no_context_takeover, which was offered")
    return Agreement(
        send_window_bits=_usable(chosen.get("client_max_window_bits")),
        remote_keeps_context="server_no_context_takeover" not in chosen,
    )


def _usable(bits: int | None) -> int:
    if bits is None:
        return MAX_WINDOW_BITS
    return bits if bits >= SMALLEST_ZLIB_WINDOW_BITS else 0


def compress(payload: bytes, window_bits: int) -> bytes:
    """One message as its own deflate stream, without the flush tail (RFC 7692 §7.2.1)."""
    # For bulk the fastest level packs JSON nearly as well in half the time; for short messages the
    # set-up dominates and the level does not matter
    level = 1 if len(payload) >= _BULK_BYTES else 6
    packer = zlib.compressobj(level, zlib.DEFLATED, -window_bits, 9)
    packed = packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed[: -len(_FLUSH_TAIL)]


class MessageGuard(Extension):
    """Caps the size of received messages and, when agreed, inflates them in bounded steps."""

    name = _NAME

    def __init__(self, max_message_bytes: int, agreement: Agreement | None) -> None:
        self._max_bytes = max_message_bytes
        self._agreement = agreement
        self._inflater: zlib._Decompress | None = None
        self._size = 0
        self._compressed = False
        self._frame_is_data = False
        self.received_bytes = 0
        """Payload of all messages so far, after inflating."""

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool | str:
        return False  # the handshake negotiates by the functions above

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._frame_is_data = not opcode.iscontrol()
        if rsv.rsv1 and (opcode.iscontrol() or opcode is Opcode.CONTINUATION):
            return CloseReason.PROTOCOL_ERROR
        if self._frame_is_data:
            if opcode is not Opcode.CONTINUATION:
                self._size = 0
                self._compressed = rsv.rsv1
            # A compressed frame can only grow, give or take some bytes of deflate's own
            if payload_length > self._max_bytes + 64 or (
                not self._compressed and self._size + payload_length > self._max_bytes
            ):
                return CloseReason.MESSAGE_TOO_BIG
        return RsvBits(self._agreement is not None, False, False)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        if not self._frame_is_data or not data:
            return data
        if self._compressed:
            return self._inflate(data)
        self._size += len(data)
        self.received_bytes += len(data)
        return data

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        if not (fin and self._frame_is_data and self._compressed):
            return None
        ended = self._inflater is not None and self._inflater.eof
        rest = b"" if ended else self._inflate(_FLUSH_TAIL)
        if ended or self._agreement is None or not self._agreement.remote_keeps_context:
            self._inflater = None
        return rest

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        if self._inflater is None:
            # The largest window reads every smaller one
            self._inflater = zlib.decompressobj(-MAX_WINDOW_BITS)
        elif self._inflater.eof:
            # zlib would pile all further input up in `unused_data`
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        room = self._max_bytes - self._size
        try:
            # one byte more than allowed tells "exactly full" from "too big"; 0 would mean no limit
            inflated = self._inflater.decompress(data, room + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        if self._inflater.unused_data:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        if len(inflated) > room:
            self._inflater = None
            return CloseReason.MESSAGE_TOO_BIG
        self._size += len(inflated)
        self.received_bytes += len(inflated)
        return inflated
