"""The location view as a pure function over documents: the oracle of the index (docs/spec/events.md §6).

Written to be compared with the text rule by rule, not to be fast. `LocationIndex` must give the same
rows for the same documents at the same time. Where the text leaves an order open (equal times), both
take: an eviction before a sigterm, the greater dedup key, the smaller source address, the app listed first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from trionode.appstate.documents import APPREMOVED, APPRUNNING, EVICTED, IPCHANGED, SIGTERM, EventRow
from trionode.wire.jsjson import JsValue, parse


class Document(msgspec.Struct, frozen=True):
    """A log document as the view sees it: `at_ms` is broadcastedAt, or createdAt of an eviction."""

    type: str
    ip: str
    at_ms: int
    expire_at_ms: int
    data: Mapping[str, JsValue] = {}
    dedup_key: str = ""


def documents_of(rows: Iterable[EventRow]) -> list[Document]:
    """Stored events as documents of the view. Raises WireError when a stored text is damaged."""
    return [
        Document(
            row.type,
            row.ip,
            row.at_ms,
            row.expire_at_ms,
            parse(row.data_text) if row.data_text else {},
            row.dedup_key,
        )
        for row in rows
    ]


class ViewRow(msgspec.Struct, frozen=True):
    """One row of the view; payload values as received, None when absent."""

    name: str
    hash: JsValue
    ip: str
    broadcasted_at_ms: int
    running_since: JsValue
    os_uptime: JsValue
    static_ip: JsValue


class _Entry(msgspec.Struct, frozen=True):
    source: str
    row: ViewRow


def _row(
    name: str, of: Mapping[str, Any], ip: str, at_ms: int, message: Mapping[str, Any], since: JsValue
) -> ViewRow:
    return ViewRow(name, of.get("hash"), ip, at_ms, since, message.get("osUptime"), message.get("staticIp"))


def view(
    documents: Iterable[Document],
    now_ms: int,
    *,
    appname: str | None = None,
    ip: str | None = None,
    grace_ms: int = 420_000,
) -> list[ViewRow]:
    """Who runs what where at `now_ms`. Falsy filters mean none; the order of the rows means nothing.

    `appname` compares whole names without case; `ip` selects events by their stored address (§6).
    """
    # Rule 1
    events = [
        event
        for event in documents
        if (event.type in (SIGTERM, EVICTED))
        or (event.type in (APPRUNNING, APPREMOVED, IPCHANGED) and event.expire_at_ms > now_ms)
    ]
    if ip:
        events = [event for event in events if event.ip == ip]
    wanted = appname.lower() if appname else None

    # Rule 2
    newest_v2: dict[str, Document] = {}
    newest_v1: dict[tuple[str, str], Document] = {}
    removed: dict[tuple[str, str], int] = {}
    shutdown: dict[str, Document] = {}
    moved: dict[str, Document] = {}
    for event in events:
        if event.type == APPRUNNING:
            if "apps" in event.data:
                _keep_newest(newest_v2, event.ip, event)
            name = event.data.get("name")
            if isinstance(name, str):
                _keep_newest(newest_v1, (event.ip, name), event)
        elif event.type == APPREMOVED:
            key = (event.ip, str(event.data.get("appName")))
            removed[key] = max(event.at_ms, removed.get(key, event.at_ms))
        elif event.type == IPCHANGED:
            _keep_newest(moved, event.ip, event)
        else:
            last = shutdown.get(event.ip)
            if last is None or (event.at_ms, event.type == EVICTED) > (last.at_ms, last.type == EVICTED):
                shutdown[event.ip] = event

    # Rule 3
    def alive(source: str, at_ms: int) -> bool:
        stop = shutdown.get(source)
        if stop is None or at_ms >= stop.at_ms:
            return True
        return stop.type == SIGTERM and stop.at_ms + grace_ms > now_ms

    entries: list[_Entry] = []
    # Rule 4
    for source, event in newest_v2.items():
        apps = event.data.get("apps")
        if not alive(source, event.at_ms) or not isinstance(apps, list):
            continue
        for app in apps:
            if isinstance(app, dict) and isinstance(app.get("name"), str):
                since = app.get("runningSince")
                since = event.data.get("runningSince") if since is None else since
                entries.append(_Entry(source, _row(app["name"], app, source, event.at_ms, event.data, since)))
    # Rule 5
    for (source, name), event in newest_v1.items():
        listed = newest_v2.get(source)
        if (listed is None or event.at_ms > listed.at_ms) and alive(source, event.at_ms):
            since = event.data.get("runningSince")
            entries.append(_Entry(source, _row(name, event.data, source, event.at_ms, event.data, since)))

    rows: dict[tuple[str, str], _Entry] = {}
    for entry in entries:
        row = entry.row
        if wanted is not None and row.name.lower() != wanted:
            continue
        # Rule 6
        gone = removed.get((entry.source, row.name))
        if gone is not None and row.broadcasted_at_ms <= gone:
            continue
        # Rule 7
        move = moved.get(entry.source)
        if move is not None and move.at_ms > row.broadcasted_at_ms:
            row = msgspec.structs.replace(row, ip=str(move.data.get("newIP")))
        # Rule 8
        key = (row.name, row.ip)
        other = rows.get(key)
        if other is None or (-row.broadcasted_at_ms, entry.source) < (
            -other.row.broadcasted_at_ms,
            other.source,
        ):
            rows[key] = _Entry(entry.source, row)
    return [entry.row for entry in rows.values()]


def _keep_newest(newest: dict[Any, Document], key: object, event: Document) -> None:
    last = newest.get(key)
    if last is None or (event.at_ms, event.dedup_key) > (last.at_ms, last.dedup_key):
        newest[key] = event
