"""A short answer of another node, read whole, unpacked, within a bound."""

from __future__ import annotations

import zlib
from contextlib import aclosing

from trionode.sync.source import HttpBody

GZIP_WINDOW_BITS = 31


async def whole_body(body: HttpBody, limit_bytes: int) -> bytes | None:
    """The body in clear; None when it is longer than that or damaged. Raises SourceError as it is read."""
    packed = bytearray()
    async with aclosing(body.pieces) as pieces:
        async for piece in pieces:
            packed += piece
            if len(packed) > limit_bytes:
                return None
    if body.encoding != "gzip":
        return bytes(packed)
    unpacker = zlib.decompressobj(wbits=GZIP_WINDOW_BITS)
    try:
        plain = unpacker.decompress(packed, limit_bytes)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else plain
