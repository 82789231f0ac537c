"""What runs where: locations, installs in progress, install errors (events.md §11, api.md §7).

All answers come from the event log's index. Names match whole and in any letter case; they are
compared as text, never used as a pattern.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import trio

from trionode.api.answers import Answer, ApiFailure, data
from trionode.api.call import Call
from trionode.api.context import LocationRow, ObserverPort
from trionode.api.dates import Dates
from trionode.api.route import ANYTHING, STRING, TEXT_OR_NULL, Param, Route, list_of, object_of
from trionode.appstate.documents import InstallErrorRow, InstallingRow

SLICE_ROWS = 2000

LOCATION = object_of(
    name=STRING,
    hash=STRING,
    ip=STRING,
    broadcastedAt=STRING,
    expireAt=STRING,
    runningSince=TEXT_OR_NULL,
    osUptime=ANYTHING,
    staticIp=ANYTHING,
)
INSTALLING = object_of(name=STRING, ip=STRING, broadcastedAt=STRING, expireAt=STRING)
INSTALL_ERROR = object_of(name=STRING, hash=STRING, ip=STRING, error=STRING, broadcastedAt=STRING)


async def location_rows(
    rows: Sequence[LocationRow], observer: ObserverPort | None = None
) -> list[dict[str, Any]]:
    """Location rows as served; times become dates. Made in slices, so that nobody else waits long.

    Those of an observer have one member more, `unverified`.
    """
    date = Dates()
    made: list[dict[str, Any]] = []
    for start in range(0, len(rows), SLICE_ROWS):
        await trio.lowlevel.checkpoint()
        piece = rows[start : start + SLICE_ROWS]
        made += [
            {
                "name": row.name,
                "hash": row.hash,
                "ip": row.ip,
                "broadcastedAt": date(row.broadcasted_at_ms),
                "expireAt": date(row.expire_at_ms),
                "runningSince": date(row.running_since_ms),
                "osUptime": row.os_uptime,
                "staticIp": row.static_ip,
            }
            for row in piece
        ]
        if observer is not None:
            for shown, row in zip(made[start:], piece, strict=True):
                shown["unverified"] = observer.is_unverified(row)
    return made


async def locations(call: Call) -> Answer:
    context = call.context
    return data(await location_rows(context.log.index.locations(), context.observer))


async def location(call: Call) -> Answer:
    context = call.context
    return data(await location_rows(context.log.index.locations(_name(call)), context.observer))


async def installing(call: Call) -> Answer:
    return data(_installing_rows(call.context.log.installing()))


async def installing_of(call: Call) -> Answer:
    return data(_installing_rows(call.context.log.installing(_name(call))))


async def install_errors(call: Call) -> Answer:
    return data(_error_rows(call.context.log.install_errors()))


async def install_errors_of(call: Call) -> Answer:
    return data(_error_rows(call.context.log.install_errors(_name(call))))


def _name(call: Call) -> str:
    name = call.text("appname")
    if not name:
        raise ApiFailure("No Flux App name specified")
    return name


def _installing_rows(rows: Iterable[InstallingRow]) -> list[dict[str, Any]]:
    date = Dates()
    return [
        {
            "name": row.name,
            "ip": row.ip,
            "broadcastedAt": date(row.broadcasted_at_ms),
            "expireAt": date(row.expire_at_ms),
        }
        for row in rows
    ]


def _error_rows(rows: Iterable[InstallErrorRow]) -> list[dict[str, Any]]:
    date = Dates()
    return [
        {
            "name": row.name,
            "hash": row.hash,
            "ip": row.ip,
            "error": row.error,
            "broadcastedAt": date(row.broadcasted_at_ms),
        }
        for row in rows
    ]


_APP = (Param("appname", "Name of the app, in any letter case", required=True),)
_GROUP = "locations"

ROUTES = (
    Route(
        "/apps/locations", locations, "Every running instance", _GROUP, cache_s=30, result=list_of(LOCATION)
    ),
    Route(
        "/apps/location",
        location,
        "Running instances of one app",
        _GROUP,
        cache_s=30,
        params=_APP,
        result=list_of(LOCATION),
    ),
    Route(
        "/apps/installinglocations",
        installing,
        "Installs in progress",
        _GROUP,
        cache_s=30,
        result=list_of(INSTALLING),
    ),
    Route(
        "/apps/installinglocation",
        installing_of,
        "Installs in progress of one app",
        _GROUP,
        cache_s=30,
        params=_APP,
        result=list_of(INSTALLING),
    ),
    Route(
        "/apps/installingerrorslocations",
        install_errors,
        "Failed installs",
        _GROUP,
        cache_s=30,
        result=list_of(INSTALL_ERROR),
    ),
    Route(
        "/apps/installingerrorslocation",
        install_errors_of,
        "Failed installs of one app",
        _GROUP,
        cache_s=30,
        params=_APP,
        result=list_of(INSTALL_ERROR),
    ),
)
