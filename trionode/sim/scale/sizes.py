"""Bytes on the line for each kind of message, from the node's own encoders.

A message is one WebSocket message in TCP segments; each segment costs its headers, and the other side
answers with acknowledgements. Texts above the threshold travel compressed, as both sides of the
network do (wire.md §1).
"""

from __future__ import annotations

import math
import random

import msgspec

from trionode.config.tree import PeerSettings
from trionode.peers.deflate import MAX_WINDOW_BITS, compress
from trionode.wire.envelope import seal
from trionode.wire.frames import HashPresent, HashRequest, encode_frame
from trionode.wire.jsjson import JsValue
from trionode.wire.keys import NodeKey
from trionode.wire.textframe import with_timestamp

MASK_BYTES = 4
"""What the side that dialled adds to every message (RFC 6455 §5.3)."""

SEGMENT_BYTES = 1448
HEADER_BYTES = 52
"""IPv4, TCP and its timestamps; the length of an acknowledgement, too."""

SEGMENTS_PER_ACK = 2
PING_BYTES = 4
SAMPLE_TIME_MS = 1_760_000_000_000


class Load(msgspec.Struct, frozen=True):
    """What one message costs: `sent_bytes` from the sender, `ack_bytes` back to it, all headers in."""

    sent_bytes: int
    ack_bytes: int


class Sizes(msgspec.Struct, frozen=True):
    """The loads of one message of the network; a mask comes on top of `sent_bytes`."""

    text: Load
    present: Load
    request: Load
    text_chars: int


def running_message(apps: int, rng: random.Random) -> str:
    """The text of a `fluxapprunning` v2 of so many apps, signed like a real one."""
    key = NodeKey.generate(rng)
    entries: list[JsValue] = [
        {
            "name": f"app{rng.randrange(10**10)}",
            "hash": rng.randbytes(32).hex(),
            "runningSince": "2026-11-20T09:41:17.000Z",
        }
        for _ in range(apps)
    ]
    data: dict[str, JsValue] = {
        "type": "fluxapprunning",
        "version": 2,
        "apps": entries,
        "ip": "123.123.123.123:16137",
        "broadcastedAt": SAMPLE_TIME_MS,
        "osUptime": 1234567.89,
        "staticIp": True,
    }
    return seal(data, key, SAMPLE_TIME_MS).text


def sizes_of(text: str, settings: PeerSettings | None = None) -> Sizes:
    """The loads of a message with this text: as a whole, announced, asked for."""
    threshold = (settings if settings is not None else PeerSettings()).compression_threshold_bytes
    payload = with_timestamp(text, SAMPLE_TIME_MS).encode()
    if len(payload) >= threshold:
        payload = compress(payload, MAX_WINDOW_BITS)
    name = bytes(20).hex()
    return Sizes(
        text=load(len(payload)),
        present=load(len(encode_frame(HashPresent(name)))),
        request=load(len(encode_frame(HashRequest(name)))),
        text_chars=len(text),
    )


def load(payload_bytes: int) -> Load:
    """One WebSocket message with so many bytes of payload."""
    frame = payload_bytes + (2 if payload_bytes < 126 else 4 if payload_bytes < 65_536 else 10)
    segments = math.ceil(frame / SEGMENT_BYTES)
    return Load(frame + segments * HEADER_BYTES, math.ceil(segments / SEGMENTS_PER_ACK) * HEADER_BYTES)


def upkeep_bytes_s(links: float, ping_interval_s: float) -> float:
    """What a node sends just to keep its links: both sides ping, each ping is answered."""
    ping = load(PING_BYTES)
    # A pong acknowledges its ping; the pong itself is acknowledged.
    per_interval = 2 * ping.sent_bytes + ping.ack_bytes + MASK_BYTES
    return links * per_interval / ping_interval_s
