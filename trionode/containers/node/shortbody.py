"""Answers of outside services within a bound (docs/spec/config.md §2)."""

from __future__ import annotations

import httpx
import trio

PLAIN = {"Accept-Encoding": "identity"}
"""Headers that ask for no compression: a compressed answer could hold more than its size says."""


async def within_bytes(answer: httpx.Response, limit_bytes: int) -> bytes | None:
    """The body of a streamed answer as it comes over the wire; None when it is longer than that."""
    body = bytearray()
    # to leave the loop early would leave generators of httpx unclosed; cancelling inside ends them
    with trio.CancelScope() as enough:
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > limit_bytes:
                enough.cancel()
    return None if len(body) > limit_bytes else bytes(body)
