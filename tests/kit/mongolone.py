"""A server without transactions, commits on it that are cut short, and what is found there afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from faultproxy import Fault, FaultProxy
from mongorows import AT_MS, location, put, quick, running
from mongoserver import Databases

from trionode.appstate.changes import Change, PutLocation
from trionode.appstate.documents import EventRow
from trionode.errors import StoreError
from trionode.registry.changes import (
    AddHashes,
    AddPermanents,
    PutCurrent,
    RegistryChange,
    ResolveHashes,
    SetScannedHeight,
)
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow
from trionode.runtime.counters import Counters
from trionode.store.checkup import Finding
from trionode.store.mongo import journal
from trionode.store.mongo.checkup import check_mongo
from trionode.store.mongo.connection import MongoServer, open_mongo
from trionode.store.mongo.events import MongoStore
from trionode.store.mongo.registry import MongoRegistryStore

FOREVER = 1_000_000
FIRST_WRITE = 6
"""Step of a commit of the registry: the facts (four reads) and the journal come before it."""
PAID = HashRow.found("t", 1000, "h", 5)
SPEC = '{"name":"App","owner":"me"}'
MESSAGE = PermanentRow("h", "fluxappregister", 1, SPEC, "App", "me", 1, "sig", "t", 1000, 5)
LATER_SPEC = '{"name":"App","owner":"you"}'


class Opened:
    """Both stores, and what was counted."""

    def __init__(self, server: MongoServer, counters: Counters) -> None:
        self.server = server
        self.counters = counters
        self.events = MongoStore(server)
        self.registry = MongoRegistryStore(server)

    async def rows(self) -> dict[str, EventRow]:
        return {row.ip: row for row in await self.events.events_for()}


@asynccontextmanager
async def opened(lone: Databases, door: FaultProxy | None = None) -> AsyncIterator[Opened]:
    url = lone.url if door is None else lone.server.url_at(door.host, door.port)
    counters = Counters()
    async with open_mongo(quick(url, lone.prefix), counters) as server:
        both = Opened(server, counters)
        await both.events.open()
        await both.registry.open()
        yield both


async def cut_short(
    lone: Databases,
    proxy: FaultProxy,
    changes: Sequence[Change] | None = None,
    *,
    registry: Sequence[RegistryChange] | None = None,
    before: Callable[[Opened], Any] | None = None,
    step: int = 2,
) -> None:
    """A commit of which the journal is written, and nothing after that step gets through."""
    async with opened(lone, proxy) as stores:
        if before is not None:
            await before(stores)
        proxy.spoil(Fault(cut="before"), nth=step, times=FOREVER)
        commit: Any = stores.events.commit if registry is None else stores.registry.commit
        with pytest.raises(StoreError):
            await commit(registry or changes or commit_of_the_log())
    proxy.judge = None


def commit_of_the_log() -> list[Change]:
    return [put(running("1.1.1.1", AT_MS + 1)), put(running("2.2.2.2")), PutLocation(location(1, "moved"))]


def commit_of_the_registry() -> list[RegistryChange]:
    return [
        AddHashes((PAID,)),
        AddPermanents((MESSAGE,)),
        ResolveHashes(("h",)),
        PutCurrent(CurrentSpec.of(MESSAGE)),
        SetScannedHeight(1002),
    ]


def of(client: Any, lone: Databases, database: str, collection: str) -> Any:
    return client[lone.prefix + database][collection]


def left_in(lone: Databases, collection: str) -> list[dict[str, Any]]:
    with lone.server.client() as client:
        return list(of(client, lone, journal.DATABASE, collection).find())


async def findings(lone: Databases, where: str) -> list[Finding]:
    report = await check_mongo(quick(lone.url, lone.prefix))
    return [found for found in report.findings if found.where == where]
