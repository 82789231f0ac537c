"""The answers of nodes that an observer reads, as values (docs/spec/api.md §3, §7; events.md §11). Pure.

Readers take the JSON of `data` and raise ValueError or msgspec.DecodeError when it is something else.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from trionode.appstate.messages import date_ms
from trionode.wire.nodelist import NodeEntry

NODES_PATH = "/daemon/viewdeterministiczelnodelist"
CHAIN_PATH = "/daemon/getblockchaininfo"
LOCATIONS_PATH = "/apps/locations"
SPECS_PATH = "/apps/globalappsspecifications"

MAX_ROWS = 200_000
MAX_TEXT = 1000
MAX_DATE_CHARS = 40
HIGHEST_BLOCK = 2**31


class ChainHeight(msgspec.Struct, frozen=True):
    """How far a source's chain daemon is."""

    blocks: int
    headers: int


class ToldLocation(msgspec.Struct, frozen=True):
    """One location as a source tells it; times in milliseconds."""

    name: str
    hash: str
    ip: str
    broadcasted_at_ms: int
    expire_at_ms: int
    running_since_ms: int | None
    os_uptime: float | None
    static_ip: bool | None


def read_height(data: bytes) -> ChainHeight:
    """`blocks` and `headers` of getblockchaininfo."""
    found = msgspec.json.decode(data, type=ChainHeight)
    if not 0 < found.blocks < HIGHEST_BLOCK or not 0 < found.headers < HIGHEST_BLOCK:
        raise ValueError(f"height {found.blocks} of {found.headers} cannot be")
    return found


def read_nodes(data: bytes) -> tuple[NodeEntry, ...]:
    """The rows of a node list; the same strings are kept once."""
    rows = msgspec.json.decode(data, type=list[dict[str, Any]])
    if not rows:
        raise ValueError("the list of nodes is empty")
    if len(rows) > MAX_ROWS:
        raise ValueError(f"{len(rows)} rows are more than there can be")
    entries = []
    for row in rows:
        entry = NodeEntry.from_row(row)
        if len(entry.ip) <= MAX_TEXT and len(entry.pubkey) <= MAX_TEXT:
            entries.append(entry)
    return tuple(entries)


def read_locations(data: bytes) -> tuple[ToldLocation, ...]:
    """The usable rows of /apps/locations; others are left out."""
    rows = msgspec.json.decode(data, type=list[dict[str, Any]])
    if len(rows) > MAX_ROWS:
        raise ValueError(f"{len(rows)} rows are more than there can be")
    return tuple(found for row in rows if (found := _location(row)) is not None)


class ToldSpec(msgspec.Struct, frozen=True):
    """One specification as a source tells it. `digest` is equal for equal documents, however written."""

    name: str
    digest: bytes
    text: bytes


def read_specs(data: bytes) -> tuple[ToldSpec, ...]:
    """The usable rows of /apps/globalappsspecifications: named documents with hash and height."""
    rows = msgspec.json.decode(data, type=list[msgspec.Raw])
    if len(rows) > MAX_ROWS:
        raise ValueError(f"{len(rows)} rows are more than there can be")
    found = []
    for row in rows:
        text = bytes(row)
        value = msgspec.json.decode(text)
        if not isinstance(value, dict):
            continue
        name, hash_, height = value.get("name"), value.get("hash"), value.get("height")
        if not (isinstance(name, str) and name and isinstance(hash_, str)):
            continue
        if not isinstance(height, int) or isinstance(height, bool):
            continue
        digest = hashlib.sha256(msgspec.json.encode(value, order="sorted")).digest()
        found.append(ToldSpec(name, digest, text))
    return tuple(found)


def _date(value: Any) -> int | None:
    """A date in milliseconds; texts that are no date are not even looked at."""
    return None if isinstance(value, str) and len(value) > MAX_DATE_CHARS else date_ms(value)


def _location(row: dict[str, Any]) -> ToldLocation | None:
    texts = [row.get(member) for member in ("name", "hash", "ip")]
    at_ms, expire_ms = _date(row.get("broadcastedAt")), _date(row.get("expireAt"))
    if not all(isinstance(text, str) and 0 < len(text) <= MAX_TEXT for text in texts):
        return None
    if at_ms is None or expire_ms is None:
        return None
    uptime, static = row.get("osUptime"), row.get("staticIp")
    return ToldLocation(
        name=str(texts[0]),
        hash=str(texts[1]),
        ip=str(texts[2]),
        broadcasted_at_ms=at_ms,
        expire_at_ms=expire_ms,
        running_since_ms=_date(row.get("runningSince")),
        os_uptime=uptime if isinstance(uptime, int | float) and not isinstance(uptime, bool) else None,
        static_ip=static if isinstance(static, bool) else None,
    )
