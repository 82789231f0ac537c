"""The checkup of a MongoDB database, also one that another node left behind; nothing is written.

Documents are read as they lie there, with only the members that the rules need, so that what cannot be
read as a row is found and named instead of being passed over (docs/spec/events.md §2, registry.md §2).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from pymongo.database import Database

from trionode.config.tree import StoreSettings
from trionode.store.checkup import (
    Checkup,
    EventMark,
    Finding,
    LogMarks,
    RegistryMarks,
    copy_findings,
    finding,
    log_findings,
    registry_findings,
)
from trionode.store.checkup_rows import names_in
from trionode.store.copymark import MARKER, is_unfinished, refuse_filled
from trionode.store.mongo import events_plan, journal
from trionode.store.mongo.connection import MongoServer
from trionode.store.mongo.events import SCOPE as EVENTS_SCOPE
from trionode.store.mongo.indexes import Indexes, look
from trionode.store.mongo.named_values import get_value
from trionode.store.mongo.passed_over import EVENTS, REGISTRY, find_passed_over
from trionode.store.mongo.presence import signs_of_another
from trionode.store.mongo.registry_repairs import registry_indexes
from trionode.store.mongo.replay import REFUSED
from trionode.store.mongo.writes import Document

GLOBAL, DAEMON, LOCAL = "globalzelapps", "zelcashdata", "zelfluxlocal"
HELD = (
    (GLOBAL, "appstateevents"),
    (GLOBAL, "zelappslocation"),
    (GLOBAL, "appsinstallinglocations"),
    (GLOBAL, "fluxappinstallingbroadcasts"),
    (GLOBAL, "appsInstallingErrorsLocations"),
    (GLOBAL, "fluxappinstallingerrorsbroadcasts"),
    (GLOBAL, "zelappsmessages"),
    (GLOBAL, "zelappstemporarymessages"),
    (GLOBAL, "zelappsinformation"),
    (DAEMON, "zelappshashes"),
    (DAEMON, "scannedheight"),
    ("chainparams", "chainmessages"),
    ("localzelapps", "zelappsinformation"),
    (LOCAL, "nodestartuptracker"),
)
"""Every collection that a node of the network keeps and trionode reads."""

_EVENT_KINDS = {"apprunning", "sigterm", "appremoved", "ipchanged", "evicted"}


async def check_mongo(settings: StoreSettings) -> Checkup:
    """Read the databases that `store.url` and `store.mongo_prefix` name. Raises StoreError."""
    # A person waits for the answer: one who mistyped the address should not wait for long.
    server = MongoServer(msgspec.structs.replace(settings, mongo_retry_s=0.0))
    await server.open()
    try:
        mark = await get_value(server, EVENTS_SCOPE, MARKER)
        report = await server.call(lambda: _Reading(server).report())
        return msgspec.structs.replace(report, findings=[*copy_findings(mark), *report.findings])
    finally:
        await server.aclose()


async def refuse_filled_mongo(settings: StoreSettings) -> None:
    """Raise StoreError when the databases hold anything but an unfinished copy.

    Before they are opened as stores, since that repairs them: a database named by mistake stays as it is.
    """
    server = MongoServer(msgspec.structs.replace(settings, mongo_retry_s=0.0))
    await server.open()
    try:
        if not is_unfinished(await get_value(server, EVENTS_SCOPE, MARKER)):
            reading = _Reading(server)
            refuse_filled(reading.name, dict(await server.call(reading.held)))
    finally:
        await server.aclose()


class _Reading:
    """One look at a database. All methods block."""

    def __init__(self, server: MongoServer) -> None:
        self._server = server

    @property
    def name(self) -> str:
        return self._server.label + (f", prefix {self._server.prefix}" if self._server.prefix else "")

    def held(self) -> list[tuple[str, int]]:
        return [(f"{name}.{kind}", self._of(name)[kind].count_documents({})) for name, kind in HELD]

    def report(self) -> Checkup:
        findings = [
            *self._interrupted(),
            *self._refused(),
            *self._index_findings(),
            *self._event_findings(),
            *self._expired(),
            *self._passed_over(),
            *self._registry_findings(),
        ]
        return Checkup(self.name, self.held(), self._facts(), findings)

    def _of(self, name: str) -> Database[Document]:
        return self._server.database(name)

    def _facts(self) -> dict[str, str]:
        scanned = self._scanned()
        return {
            "commits": "transactions" if self._server.has_transactions else "journal (no replica set)",
            "read to block": str(max(scanned)) if scanned else "none yet",
        }

    def _scanned(self) -> list[int]:
        found = self._of(DAEMON).scannedheight.find({"generalScannedHeight": {"$gte": 0}})
        return [int(document["generalScannedHeight"]) for document in found]

    def _interrupted(self) -> Iterator[Finding]:
        whole: list[str] = []
        overtaken: list[str] = []
        damaged: list[str] = []
        for scope in self._of(journal.DATABASE)[journal.COLLECTION].distinct("scope"):
            try:
                kept = journal.Journal(self._of, str(scope)).kept()
            except journal.DamagedJournalError as error:
                damaged.append(f"{scope}: {error.remedy}")
                continue
            if kept is not None:
                signs = signs_of_another(self._of, kept)
                (overtaken if signs else whole).append(
                    f"{scope}: {'; '.join(signs)}" if signs else str(scope)
                )
        where = journal.COLLECTION
        yield from finding(
            "problem",
            where,
            "commits that cannot be read any more",
            "delete them, nothing starts before",
            damaged,
        )
        yield from finding("repair", where, "commits that were cut short", "they are finished", whole)
        yield from finding(
            "repair",
            where,
            "commits that were cut short before another node ran",
            "what replaces nothing newer is done, the rest is dropped and found out anew",
            overtaken,
        )

    def _refused(self) -> Iterator[Finding]:
        found = self._of(journal.DATABASE)[REFUSED].find({}, {"write": 0})
        yield from finding(
            "problem",
            REFUSED,
            "writes that the database refused, laid aside",
            "remove what it takes offence at, then delete the document (docs/storage.md)",
            (f"{one.get('database')}.{one.get('collection')}: {one.get('reason')}" for one in found),
        )

    def _passed_over(self) -> Iterator[Finding]:
        for place, ids in find_passed_over(self._of, {**EVENTS, **REGISTRY}).items():
            yield from finding(
                "note",
                f"{place.database}.{place.collection}",
                "documents that no node can have written, by their _id or name",
                "passed over and counted; delete them if nobody needs them",
                map(str, ids),
            )

    def _index_findings(self) -> Iterator[Finding]:
        for name, wanted in indexed():
            report = look(self._of(name), wanted)
            for what, names, then in (
                ("missing indexes", report.missing, "they are created"),
                ("indexes with other options", report.conflicting, "they are replaced"),
                ("indexes of an older version", report.outdated, "they are dropped"),
            ):
                yield from finding("repair", f"{name}.{wanted.collection}", what, then, names)

    # The event log

    def _event_findings(self) -> Iterator[Finding]:
        database = self._of(GLOBAL)
        wanted = {"ip": 1, "type": 1, "dedupKey": 1, "data.apps.name": 1, "data.name": 1, "data.newIP": 1}
        events: list[EventMark] = []
        strange: list[str] = []
        for document in database.appstateevents.find({}, wanted):
            key = _texts(document, ("ip", "type", "dedupKey"))
            if key is None or key[1] not in _EVENT_KINDS:
                strange.append(str(document["_id"]))
                continue
            ip, kind, dedup_key = key
            events.append(EventMark(ip, kind, dedup_key, names_in(kind, document.get("data"))))
        yield from finding(
            "note",
            "appstateevents",
            "documents that are no events",
            "passed over; they go when they expire",
            strange,
        )
        places = self._keys("zelappslocation", ("name", "ip"))
        other = {
            "appsinstallinglocations": self._keys("appsinstallinglocations", ("name", "ip")),
            "appsInstallingErrorsLocations": self._keys(
                "appsInstallingErrorsLocations", ("name", "hash", "ip")
            ),
        }
        yield from log_findings(LogMarks(events, [(name, ip) for name, ip in places], other))

    def _keys(self, collection: str, members: Sequence[str]) -> list[tuple[str, ...]]:
        found = self._of(GLOBAL)[collection].find({}, dict.fromkeys(members, 1))
        return [key for document in found if (key := _texts(document, members)) is not None]

    def _expired(self) -> Iterator[Finding]:
        """Without the TTL index nothing ever goes: tell how much has piled up."""
        database = self._of(GLOBAL)
        for collection in ("appstateevents", "zelappslocation"):
            without = database[collection].count_documents({"expireAt": {"$not": {"$type": "date"}}})
            if without:
                yield Finding(
                    "note",
                    collection,
                    "documents without a time to expire",
                    "passed over; the database never deletes them by itself",
                    without,
                )

    # The registry

    def _registry_findings(self) -> Iterator[Finding]:
        scanned = self._scanned()
        if len(scanned) > 1:
            heights = (str(height) for height in sorted(scanned)[:-1])
            yield from finding(
                "repair", "scannedheight", "more than one scanned height", "the highest stays", heights
            )
        payments = list(self._of(DAEMON).zelappshashes.find({}, {"hash": 1, "message": 1, "value": 1}))
        wanted = {"hash": 1, "valueSat": 1, "appSpecifications.name": 1, "zelAppSpecifications.name": 1}
        messages = list(self._of(GLOBAL).zelappsmessages.find({}, wanted))
        current = list(self._of(GLOBAL).zelappsinformation.find({}, {"name": 1, "hash": 1}))
        yield from _message_findings(messages, {str(payment.get("hash")) for payment in payments})
        marks = RegistryMarks(
            [(str(document.get("hash")), document.get("message") is True) for document in payments],
            [str(document.get("hash")) for document in messages],
            [(str(document.get("name")), str(document.get("hash"))) for document in current],
        )
        yield from registry_findings(marks)


def _message_findings(messages: Iterable[Document], paid: set[str]) -> Iterator[Finding]:
    nan: list[str] = []
    lost: list[str] = []
    old: list[str] = []
    nameless: list[str] = []
    for document in messages:
        hash_, value = str(document.get("hash")), document.get("valueSat")
        if isinstance(value, float) and math.isnan(value):
            (nan if hash_ in paid else lost).append(hash_)
        if "appSpecifications" not in document:
            (old if "zelAppSpecifications" in document else nameless).append(hash_)
    where = "zelappsmessages"
    yield from finding(
        "repair", where, "amounts that are no number", "the amount of the payment is put there", nan
    )
    yield from finding(
        "note",
        where,
        "amounts that are no number, of payments not on record",
        "read as 0 until the payment is found",
        lost,
    )
    yield from finding("repair", where, "rows of the oldest form", "their member gets today's name", old)
    yield from finding(
        "problem", where, "rows without a specification", "delete them: peers send them again", nameless
    )


def _texts(document: Mapping[str, Any], members: Sequence[str]) -> tuple[str, ...] | None:
    values = tuple(value for member in members if isinstance(value := document.get(member), str))
    return values if len(values) == len(members) else None


def indexed() -> list[tuple[str, Indexes]]:
    """Every collection with the indexes that the stores need, by database."""
    log = [(events_plan.DATABASE, wanted) for wanted in events_plan.INDEXES]
    return [*log, *registry_indexes()]
