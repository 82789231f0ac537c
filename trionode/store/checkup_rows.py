"""The checkup of stores that are read row by row: SQLite (docs/spec/events.md §2, registry.md §2)."""

from __future__ import annotations

from collections.abc import Sequence

from trionode.appstate.documents import EventRow, InstallErrorRow, InstallingRow, LocationRow
from trionode.store.checkup import (
    Checkup,
    EventMark,
    LogMarks,
    RegistryMarks,
    copy_findings,
    finding,
    log_findings,
    registry_findings,
)
from trionode.store.copying import Side
from trionode.store.copymark import MARKER
from trionode.store.localapps import LOCAL_KIND
from trionode.wire.jsjson import parse


async def check_rows(side: Side, *, missing: Sequence[str] = (), in_use: bool = False) -> Checkup:
    """Read everything and judge it. Raises StoreError when a row cannot be read.

    `missing`: files that are not there. `in_use`: a node runs on the others.
    """
    events: list[EventMark] = []
    places: list[tuple[str, str]] = []
    other: dict[str, list[tuple[str, ...]]] = {"installing": [], "install_errors": []}
    async for row in side.log.load():
        match row:
            case EventRow():
                events.append(event_mark(row))
            case LocationRow():
                places.append((row.name, row.ip))
            case InstallingRow():
                other["installing"].append((row.name, row.ip))
            case InstallErrorRow():
                other["install_errors"].append((row.name, row.hash, row.ip))
    registry = side.registry
    marks = RegistryMarks(
        [(row.hash, row.message) async for row in registry.stream_hashes()],
        [row.hash async for row in registry.stream_permanents()],
        [(row.name, row.hash) async for row in registry.stream_current()],
    )
    held = await side.log.counts() | await registry.counts()
    if side.local is not None:
        held[LOCAL_KIND] = len(await side.local.rows())
    findings = [
        *copy_findings(await side.log.get_meta(MARKER)),
        *finding("note", "files", "files that are not there", "`trionode run` makes them", missing),
        *log_findings(LogMarks(events, places, other)),
        *registry_findings(marks),
    ]
    facts = {"read to block": str(await registry.scanned_height())}
    if in_use:
        facts["in use"] = "by a running node: what it wrote meanwhile may be seen in part"
    return Checkup(side.name, list(held.items()), facts, findings)


def event_mark(row: EventRow) -> EventMark:
    """The event in short."""
    return EventMark(row.ip, row.type, row.dedup_key, names_in(row.type, parse(row.data_text or "null")))


def names_in(kind: str, data: object) -> tuple[str, ...]:
    """Names of running apps; of a move the new address."""
    if not isinstance(data, dict):
        return ()
    if kind == "ipchanged":
        found = [data.get("newIP")]
    elif kind == "apprunning":
        apps = data.get("apps")
        listed = apps if isinstance(apps, list) else [data]
        found = [app.get("name") for app in listed if isinstance(app, dict)]
    else:
        found = []
    return tuple(name for name in found if isinstance(name, str))
