"""MongoServer: one connection to a MongoDB server for all stores of a node.

The driver blocks, so every use of it happens in a worker thread: `call` reads, `commit` writes.

- What is acknowledged has been written by the majority of a replica set and is in its journal on disk.
- `commit` is all or nothing: a transaction where the server has them, else a roll-forward journal
  (journal.py). A caller that is cancelled waits for the attempt that runs; nothing is written later.
- When the server is away or cannot write (no space, no right), calls are tried again with growing pauses for
  `store.mongo_retry_s`, then they raise StoreAway. `is_connected` and `watch` tell what is going on; recovery
  needs nobody.
"""

from __future__ import annotations

import functools
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import pymongo
import trio
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import InvalidURI, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from trionode.config.tree import StoreSettings
from trionode.errors import StoreAway, StoreError
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.store.availability import Availability
from trionode.store.mongo.commits import Build, Journalled, JournalledCommit, Session, commit_transaction
from trionode.store.mongo.failures import is_lost, is_passing, reason, store_error
from trionode.store.mongo.journal import COLLECTION, DATABASE, apply
from trionode.store.mongo.writes import Document

_T = TypeVar("_T")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_TOLD_AFTER_S = 1.0
"""A server that answers, but says "not now" (an election, another writer), is no news before this."""
REACH, READ, WRITE = "reach", "read", "write"
"""What may not work: connecting, reading, writing."""
_NOT_ALLOWED = (13, 18)  # unauthorized, authentication failed
_WRITERS = 2  # the two stores of a node
_SETTLE_S = 2.0

__all__ = ["Build", "MongoServer", "Session", "open_mongo"]

log = get_logger("store.mongo")


@asynccontextmanager
async def open_mongo(settings: StoreSettings, counters: Counters | None = None) -> AsyncIterator[MongoServer]:
    """A connected server for the length of a block. Raises StoreError."""
    server = MongoServer(settings, counters)
    await server.open()
    try:
        yield server
    finally:
        with trio.CancelScope(shield=True):
            await server.aclose()


class MongoServer:
    """The server that `store.url` names. `open` before use."""

    def __init__(self, settings: StoreSettings, counters: Counters | None = None) -> None:
        self._settings = settings
        self.availability = Availability("MongoDB", "the database", counters)
        self.prefix = settings.mongo_prefix
        self.has_transactions = False
        self._has_members = False
        """A replica set or a cluster, where the majority acknowledges."""
        self._client: MongoClient[Document] | None = None
        self._reads = trio.CapacityLimiter(settings.mongo_threads)
        self._writing = trio.CapacityLimiter(_WRITERS)
        self._turns: dict[str, trio.Lock] = {}
        self.journalled = Journalled(self.database)
        self._lost_sessions: deque[Mapping[str, Any]] = deque()

    @property
    def label(self) -> str:
        """Hosts, for messages; without user and password."""
        return self.availability.label

    @property
    def counters(self) -> Counters:
        return self.availability.counters

    @property
    def is_connected(self) -> bool:
        return self.availability.is_connected

    @property
    def is_readable(self) -> bool:
        """Half a commit of the journal, which only writing can finish, is not read over."""
        is_stuck = WRITE in self.availability.lost and bool(self.journalled.unfinished)
        return self.availability.is_readable and not is_stuck

    # Opening and closing

    async def open(self) -> None:
        """Connect and learn what the server can do. Raises StoreError."""
        try:
            self.availability.label = _label(self._settings.url)
        except (PyMongoError, ValueError, OSError) as error:
            raise _unusable(error) from None
        try:
            await self._retried(self._connect, REACH, limiter=self._reads, abandon=False)
        except (ValueError, OSError) as error:
            # An address the driver cannot take, a certificate that is not there.
            raise _unusable(error) from None
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.aclose()
            raise

    def _connect(self) -> None:
        if self._client is None:
            settings = self._settings
            call_ms = int(settings.mongo_call_s * 1000)
            self._client = MongoClient(
                settings.url,
                appname="trionode",
                tz_aware=False,
                timeoutMS=call_ms,
                connectTimeoutMS=int(settings.mongo_connect_s * 1000),
                maxPoolSize=settings.mongo_threads + 4,
                retryWrites=True,
                retryReads=True,
            )
        with pymongo.timeout(min(self._settings.mongo_connect_s, self._settings.mongo_call_s)):
            # Waits for a server to talk to; any call would, but for as long as a call may take.
            is_found = self._client.is_primary
        log.debug("a server was found", server=self.label, primary=is_found)
        hello = self._client.admin.command("hello")
        self._has_members = "setName" in hello or hello.get("msg") == "isdbgrid"
        has_sessions = hello.get("logicalSessionTimeoutMinutes") is not None
        self.has_transactions = self._has_members and has_sessions and self._may_transact(self._client)

    def _may_transact(self, client: MongoClient[Document]) -> bool:
        """Try it: some servers that look like a replica set have no transactions."""
        collection = client[self.prefix + DATABASE][COLLECTION]
        try:
            with client.start_session() as session, session.start_transaction():
                collection.find_one({"_id": ""}, session=session)
        except OperationFailure as error:
            if is_passing(error) or error.code in _NOT_ALLOWED:
                raise
            return False
        return True

    async def aclose(self) -> None:
        """Wait for the threads that write, then close; a second call does nothing.

        What waits for its turn, or for another try, gets a StoreError.
        """
        if self._client is None:
            return
        places = [object() for _ in range(_WRITERS)]
        for place in places:
            await self._writing.acquire_on_behalf_of(place)
        try:
            if self.is_connected:
                await trio.to_thread.run_sync(self._settle)
            client, self._client = self._client, None
            if client is not None:
                await trio.to_thread.run_sync(_close, client)
        finally:
            for place in places:
                self._writing.release_on_behalf_of(place)

    def _settle(self) -> None:
        """Whoever opens the database next finds no journal of a commit that is done."""
        for scope in tuple(self.journalled.lingering):
            try:
                with pymongo.timeout(_SETTLE_S):
                    self.journalled.settle(scope)
            except PyMongoError as error:
                # Carried out again by the next start, which changes nothing.
                log.info("a journal stays behind", scope=scope, problem=type(error).__name__)

    # For the stores

    def database(self, name: str) -> Database[Document]:
        """The database `name` of this node (with its prefix). Dates come as `DatetimeMS`: any moment."""
        client = self._client
        if client is None:
            raise StoreError(f"{self.label} is not open", remedy="open the store first")
        return client.get_database(
            self.prefix + name,
            codec_options=CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority" if self._has_members else 1, j=True),
            read_concern=ReadConcern("majority" if self._has_members else "local"),
        )

    async def call(self, work: Callable[[], _T], *, doing: str = "read", writes: bool = False) -> _T:
        """Run `work` in a thread, again when the server was away. Raises StoreError.

        A cancelled reader leaves at once. With `writes` (index building, repairs; harmless when repeated)
        the thread is waited for.
        """
        for scope in tuple(self.journalled.unfinished):
            await self.recover(scope)
        limiter = self._writing if writes else self._reads
        return await self._retried(work, doing, limiter=limiter, abandon=not writes)

    async def commit(self, scope: str, build: Build[_T]) -> _T:
        """Write all or nothing; durable when it returns. Raises StoreError.

        `scope` is the store ("events", "registry"): its commits come one after another.
        """
        async with self.settled(scope):
            attempt = JournalledCommit(self.journalled, scope, build)
            work = functools.partial(self._transact, build) if self.has_transactions else attempt.run
            return await self._retried(work, "write", limiter=self._writing, abandon=False)

    @asynccontextmanager
    async def quiet(self, scope: str) -> AsyncIterator[None]:
        """No commit of `scope` runs inside the block."""
        async with self._turns.setdefault(scope, trio.Lock()):
            yield

    @asynccontextmanager
    async def settled(self, scope: str) -> AsyncIterator[None]:
        """No commit of `scope` runs inside the block, nor was one cut short: for reads of several collections
        that must agree. Raises StoreError."""
        async with self.quiet(scope):
            if scope in self.journalled.unfinished:
                await self._recover(scope)
            yield

    async def recover(self, scope: str) -> None:
        """Finish a commit that the end of the process interrupted; a store does it when it opens."""
        async with self.quiet(scope):
            await self._recover(scope)

    def watch(self, listener: Callable[[bool], None]) -> None:
        """Tell `listener` (in the node's own thread) when the server is lost (False) and back (True)."""
        self.availability.watch(listener)

    def report_to(self, counters: Counters, bus: EventBus) -> None:
        """From now on count there, and publish `store:connection` {connected, server, problem}."""
        self.availability.report_to(counters, bus)

    def document(self) -> dict[str, Any]:
        """For the status of the node."""
        more = {"prefix": self.prefix, "transactions": self.has_transactions}
        return self.availability.document() | more

    # In the thread of a commit

    def _transact(self, build: Build[_T]) -> _T:
        client = self._client
        if client is None:
            raise StoreError(f"{self.label} is not open", remedy="open the store first")
        self._end_lost_sessions(client)
        with client.start_session() as session:
            session.start_transaction(
                read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority", j=True)
            )
            try:
                plan, result = build(session)
                apply(self.database, plan, session=session)
                commit_transaction(session)
            except PyMongoError as error:
                if is_lost(error):
                    self._lost_sessions.append(session.session_id)
                raise
        return result

    def _end_lost_sessions(self, client: MongoClient[Document]) -> None:
        """A transaction whose end the server never heard of would keep its documents locked for a minute."""
        sessions: list[Mapping[str, Any]] = []
        with suppress(IndexError):
            # One by one: another thread may be adding to them.
            while True:
                sessions.append(self._lost_sessions.popleft())
        if not sessions:
            return
        try:
            client.admin.command("killSessions", sessions)
        except OperationFailure:
            log.info("the server ends lost transactions by itself", sessions=len(sessions))
        except PyMongoError:
            self._lost_sessions += sessions
            raise

    # Trying again

    async def _recover(self, scope: str) -> None:
        def work() -> None:
            if not self.has_transactions:
                self.journalled.presence.begin(self.database)
            self.journalled.recover(scope, self.counters)

        await self._retried(work, "write", limiter=self._writing, abandon=False)

    async def _retried(
        self, work: Callable[[], _T], doing: str, *, limiter: trio.CapacityLimiter, abandon: bool
    ) -> _T:
        begun_s = trio.current_time()
        give_up_s = begun_s + self._settings.mongo_retry_s
        pause_s = _FIRST_PAUSE_S
        part = WRITE if limiter is self._writing else READ
        while True:
            try:
                result = await trio.to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=abandon)
            except PyMongoError as error:
                problem = store_error(self.label, doing, error, opening=doing == REACH)
                self.availability.count("failed_calls")
                now_s = trio.current_time()
                is_last = now_s + pause_s > give_up_s
                if not isinstance(problem, StoreAway):
                    raise problem from None
                if is_lost(error):
                    self.availability.is_lost(REACH, problem, reads_too=True)
                elif is_last or now_s - begun_s >= _TOLD_AFTER_S or not is_passing(error):
                    self.availability.is_lost(part, problem, reads_too=part == READ)
                if is_last:
                    raise problem from None
            except BSONError as error:
                # Too large, or of a form the driver cannot send: no server was asked.
                raise StoreError(
                    f"cannot {doing} {self.label}: {reason(error)}", remedy="see the log"
                ) from None
            else:
                # Who writes reads too; a server that can be read may still have no space.
                self.availability.answered(REACH, READ, part)
                return result
            self.availability.count("repeated_calls")
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _close(client: MongoClient[Document]) -> None:
    # It says goodbye to the server, and would look half a minute for one that is away.
    with pymongo.timeout(_SETTLE_S):
        client.close()


def _label(url: str) -> str:
    if url.startswith("mongodb+srv://"):
        # The hosts behind the name are looked up when connecting, not here.
        # The last "@" ends the password, also one with a "/" that nobody escaped.
        return re.split("[/?]", url.removeprefix("mongodb+srv://").rpartition("@")[2])[0]
    nodes: list[tuple[str, Any]] = parse_uri(url)["nodelist"]
    return ",".join(f"{host}:{port}" if port else host for host, port in nodes)


def _unusable(error: Exception) -> StoreError:
    return StoreError(
        f"store.url cannot be read: {_without_secrets(error)}",
        remedy="write mongodb://USER:PASSWORD@HOST:PORT/?authSource=admin, specials as %XX",
    )


def _without_secrets(error: Exception) -> str:
    is_harmless = isinstance(error, OSError) or (isinstance(error, InvalidURI) and "@" not in str(error))
    return str(error) if is_harmless else type(error).__name__
