"""Outgoing WebSocket data frames, encoded once per wire form for fan-out (RFC 6455 §5, wire.md §1).

A server's frame is the same for every link. A client's frame carries a mask; one fresh random mask
per message serves all links, because no link sees two of our messages under one mask, which is what
RFC 6455 §5.3 asks for.
"""

from __future__ import annotations

import os
import struct

from trionode.peers.deflate import compress

_XOR = [bytes(value ^ key for value in range(256)) for key in range(256)]
_FIN = 0x80
_COMPRESSED = 0x40
_TEXT = 0x1
_BINARY = 0x2


def mask(payload: bytes, key: bytes) -> bytearray:
    """`payload` xor the repeated four bytes of `key`; about 1.3 ns a byte."""
    masked = bytearray(payload)
    for offset in range(4):
        masked[offset::4] = masked[offset::4].translate(_XOR[key[offset]])
    return masked


def data_frame(payload: bytes, *, text: bool, compressed: bool, mask_key: bytes | None) -> bytes:
    """One unfragmented data frame; masked when `mask_key` (4 bytes) is given."""
    first = _FIN | (_COMPRESSED if compressed else 0) | (_TEXT if text else _BINARY)
    masked = 0x80 if mask_key is not None else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked | 127, size)
    if mask_key is None:
        return head + payload
    return b"".join((head, mask_key, mask(payload, mask_key)))


def utf8(text: str) -> bytes:
    """UTF-8 as the network's nodes write it: a lone surrogate becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


class Prepared:
    """One outgoing message with its wire forms, built on first use and kept."""

    __slots__ = ("_forms", "_packed", "_payload", "_text", "_threshold_bytes")

    def __init__(self, message: str | bytes, compression_threshold_bytes: int) -> None:
        self._text = isinstance(message, str)
        self._payload = utf8(message) if isinstance(message, str) else bytes(message)
        self._threshold_bytes = compression_threshold_bytes
        self._forms: dict[tuple[bool, int], bytes] = {}
        self._packed: dict[int, bytes] = {}

    @property
    def size_bytes(self) -> int:
        """Payload size before compression."""
        return len(self._payload)

    def frame(self, *, client: bool, window_bits: int) -> bytes:
        """The frame for a link on which we are `client` or server; `window_bits` 0 = uncompressed."""
        if len(self._payload) < self._threshold_bytes:
            window_bits = 0
        form = self._forms.get((client, window_bits))
        if form is None:
            form = self._encode(client, window_bits)
            self._forms[client, window_bits] = form
        return form

    def _encode(self, client: bool, window_bits: int) -> bytes:
        payload, compressed = self._payload, False
        if window_bits:
            if window_bits not in self._packed:
                self._packed[window_bits] = compress(self._payload, window_bits)
            packed = self._packed[window_bits]
            if len(packed) < len(payload):
                payload, compressed = packed, True
        key = os.urandom(4) if client else None
        return data_frame(payload, text=self._text, compressed=compressed, mask_key=key)
