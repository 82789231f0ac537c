"""Rows and messages for the tests of the event log on MongoDB."""

from __future__ import annotations

from typing import Any

import msgspec
import trio
from mongoserver import Databases

from trionode.appstate.changes import PutEvent, PutLocation
from trionode.appstate.documents import EventRow, LocationRow, Signed, SignedCopy
from trionode.appstate.facts import fact_of
from trionode.config.tree import StoreSettings
from trionode.store.mongo.connection import open_mongo
from trionode.store.mongo.events import MongoStore
from trionode.wire.jsjson import stringify

AT_MS = 4_100_000_000_000
"""Far ahead: what has expired the server itself deletes, once a minute."""
LEAST_PATIENCE_S = 2.0
"""The driver looks each half second whether a server is back."""
SIGNED = Signed(1, AT_MS, "04aa", "c2ln")


def running(ip: str = "1.2.3.4", at_ms: int = AT_MS, **values: Any) -> EventRow:
    """A running event with a payload like those of the network."""
    data = {
        "type": "fluxapprunning",
        "version": 2,
        "apps": [{"name": "AppA", "hash": "h" * 64, "runningSince": "2025-10-09T08:53:20.000Z"}],
        "ip": ip,
        "broadcastedAt": at_ms,
        "osUptime": 12345.67,
        "staticIp": True,
    }
    row = EventRow(
        ip,
        "apprunning",
        "v2",
        at_ms + 7_500_000,
        broadcasted_at_ms=at_ms,
        received_at_ms=at_ms + 5,
        data_text=stringify(data),
        signed=SIGNED,
    )
    return msgspec.structs.replace(row, **values)


def put(row: EventRow) -> PutEvent:
    return PutEvent(row, fact_of(row))


def location(row_id: int, name: str = "AppA", ip: str = "1.2.3.4", **values: Any) -> LocationRow:
    row = LocationRow(row_id, name, "h", ip, AT_MS, AT_MS + 7_500_000, AT_MS - 1000, 12.5, True)
    return msgspec.structs.replace(row, **values)


def signed_copy(name: str, ip: str = "1.2.3.4") -> SignedCopy:
    data = {"type": "fluxappinstalling", "version": 1, "name": name, "ip": ip, "broadcastedAt": AT_MS}
    return SignedCopy("installing", ip, name, "", AT_MS, AT_MS + 9, AT_MS, stringify(data), SIGNED)


def quick(url: str, prefix: str, **values: Any) -> StoreSettings:
    """Settings under which nothing is tried again. A server that is there is waited for: it may be busy."""
    wanted = {"mongo_call_s": 60.0, "mongo_connect_s": 60.0, "mongo_retry_s": 0.0, **values}
    return StoreSettings(url=url, mongo_prefix=prefix, **wanted)


async def impatience_s(mongo: Databases) -> float:
    """So long a call takes only when the server is away: many times what a commit takes on this machine, as
    busy as it is. For times that are short all the same; who waits for the end of one: mongohaste.py."""
    async with open_mongo(quick(mongo.url, f"{mongo.prefix}measure_")) as server:
        store = MongoStore(server)
        await store.commit([put(running("1.1.1.1"))])
        before_s = trio.current_time()
        await store.commit([put(running("2.2.2.2")), PutLocation(location(1))])
        return max(LEAST_PATIENCE_S, 20 * (trio.current_time() - before_s))
