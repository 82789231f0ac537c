"""An SQLite file of ours: ownership, settings, schema, one writer, one reader, errors a person can act on.

All writing goes through one connection that one thread at a time may use (a limiter of its own with one
place); reading has a second connection, so an iteration never waits for a commit nor holds one up. Every
hop into a thread carries a whole batch, and no cursor stays open between hops.

Durability. "Acknowledged" must survive the sudden death of the process at any moment. With a write-ahead
log and `synchronous=NORMAL` a commit has been handed to the operating system when it returns, so a killed
process loses nothing. What NORMAL leaves out against FULL is waiting for the disk at every commit: after
a power cut the newest commits may be gone, but the file is whole, and what is gone is gossip of the last
moments that every peer still has and state sync brings back (docs/spec/events.md §10). FULL would cost
one disk flush a commit for data that others hold anyway.

A write that finds the disk full, the file locked or gone is tried again for a while (sqlite_disk.py).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import trio

from trionode.errors import StoreAway, StoreError
from trionode.store.sqlite_disk import SqliteDisk
from trionode.store.sqlite_failures import MOVE_AWAY, translated
from trionode.store.sqlite_look import Look, look

_T = TypeVar("_T")


class Schema(msgspec.Struct, frozen=True):
    """What a file of one kind holds. The application id in the file header tells it from other files."""

    application_id: int
    version: int
    statements: str
    checkpoint_pages: int = 1000
    """Pages in the write-ahead log that start folding it into the file. More is faster for bulk writing:
    a page of an index that changes again and again is folded once."""
    synchronous: str = "NORMAL"
    """"FULL" for what nobody else has: it survives a power cut too, at one disk flush a commit."""


_SETTINGS = (
    # Readers never wait for the writer, and a commit is one append.
    "PRAGMA journal_mode = WAL",
    # See above: kill-safe, not power-cut-safe for the last moments.
    "PRAGMA synchronous = NORMAL",
    # Nobody else writes (lock file), but an operator may look in with another program for a moment. Who holds
    # it longer is waited for outside of SQLite (sqlite_disk.py), where a stop of the node need not wait too.
    "PRAGMA busy_timeout = 1500",
    # 16 MiB of pages: the indexes of today's network stay cached.
    "PRAGMA cache_size = -16384",
    "PRAGMA temp_store = MEMORY",
    # After a burst the write-ahead log shrinks back to at most 16 MiB.
    "PRAGMA journal_size_limit = 16777216",
)


_TRIES = 4
_TRY_PAUSE_S = 0.05


def take_ownership(path: Path) -> int:
    """Lock `<path>.lock` for this process; the lock ends with the process, however it ends.

    Returns the descriptor to close. Raises StoreError when another process holds it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            # Who only looks whether a node runs (sqlite_look.py) holds it for a moment.
            time.sleep(_TRY_PAUSE_S)
    os.close(descriptor)
    raise StoreError(
        f"{path} is in use by another process",
        remedy="stop the other node, or give this one its own data folder",
    )


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection with the settings above; transactions are begun and ended by hand."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        for setting in _SETTINGS:
            connection.execute(setting)
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, path: Path, schema: Schema, *, to_read: bool = False) -> None:
    """Check the file and create the schema in an empty one. Raises StoreError or sqlite3.Error."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables:
        if to_read:
            raise StoreError(f"{path} is empty", remedy="start the node: it makes what is missing")
        connection.executescript(
            f"BEGIN IMMEDIATE; {schema.statements} PRAGMA application_id = {schema.application_id};"
            f" PRAGMA user_version = {schema.version}; COMMIT;"
        )
        return
    if application_id != schema.application_id:
        raise StoreError(f"{path} is the database of another program", remedy="choose another store.url")
    if version != schema.version:
        raise StoreError(
            f"{path} has schema version {version}, this program knows {schema.version}",
            remedy="run the version of trionode that wrote it, or move the file away",
        )
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StoreError(f"{path} is damaged: {verdict}", remedy=MOVE_AWAY)


class SqliteFile:
    """One file with its schema. `open` before use; one process at a time.

    `disk`: shared by the files of a node; without one nothing is tried again.
    """

    waits: ClassVar[bool] = True
    """Whether a write that fails for lack of space is tried again at once, or fails."""

    def __init__(self, path: Path, schema: Schema, disk: SqliteDisk | None = None) -> None:
        self.path = path
        self.disk = SqliteDisk(str(path.parent)) if disk is None else disk
        self._schema = schema
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._look_only: Look | None = None
        self._files: dict[Path, tuple[int, int]] = {}
        self._write_limit = trio.CapacityLimiter(1)
        self._turn = trio.Lock()
        self._read_limit = trio.CapacityLimiter(1)

    async def open(self) -> None:
        """Take the file into ownership, check it, create what is missing. Raises StoreError."""
        attempt = partial(trio.to_thread.run_sync, self._open, limiter=self._write_limit)
        give_up_s = trio.current_time() + self.disk.patience_s
        await self.disk.retried(self.path.name, attempt, give_up_s=give_up_s)

    def _open(self) -> None:
        with translated(self.path, "open"):
            self._lock = take_ownership(self.path)
            try:
                self._writer = connect(self.path)
                self._writer.execute(f"PRAGMA wal_autocheckpoint = {self._schema.checkpoint_pages}")
                self._writer.execute(f"PRAGMA synchronous = {self._schema.synchronous}")
                prepare(self._writer, self.path, self._schema)
                self._reader = connect(self.path, read_only=True)
                self._files = _identities(self.path)
            except (sqlite3.Error, OSError, StoreError):
                self._close()
                raise

    async def open_to_read(self) -> None:
        """Only look: nothing is changed, and a node may run on the file. Raises StoreError."""
        await trio.to_thread.run_sync(self._open_to_read, limiter=self._write_limit)

    def _open_to_read(self) -> None:
        with translated(self.path, "read"):
            self._look_only = look(self.path)
            self._reader = self._look_only.connection
            try:
                prepare(self._reader, self.path, self._schema, to_read=True)
            except (sqlite3.Error, OSError, StoreError):
                self._close()
                raise

    @property
    def in_use(self) -> bool:
        """Opened to read: whether a node runs on the file."""
        return self._look_only is not None and self._look_only.in_use

    async def aclose(self) -> None:
        """Close; a second call does nothing."""
        if self._lock is not None or self._look_only is not None:
            await trio.to_thread.run_sync(self._close, limiter=self._write_limit)

    def _close(self) -> None:
        """Close the reader first, so that the writer's close folds the write-ahead log into the file."""
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        lock, self._lock = self._lock, None
        look_only, self._look_only = self._look_only, None
        for connection in (reader, writer):
            if connection is not None:
                connection.close()
        if look_only is not None:
            look_only.close()
        if lock is not None:
            os.close(lock)

    async def _write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work` in one transaction in the writer's thread; durable when it returns.

        Writes keep their order, also while they have to wait for space. A caller that is cancelled then has
        stored nothing.
        """
        if not self.waits:
            return await self._write_now(work)
        give_up_s = trio.current_time() + self.disk.patience_s
        async with self._turn:
            return await self._write_now(work, give_up_s)

    async def _write_now(self, work: Callable[[sqlite3.Connection], _T], give_up_s: float = 0.0) -> _T:
        """The same for what depends on no other write and need not wait."""
        attempt = partial(trio.to_thread.run_sync, self._transact, work, limiter=self._write_limit)
        return await self.disk.retried(self.path.name, attempt, give_up_s=give_up_s)

    def _transact(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._writer
        if connection is None:
            raise self._not_open()
        with translated(self.path, "write"):
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                self._still_there()
                connection.execute("COMMIT")
            except Exception:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return result

    def _still_there(self) -> None:
        """What is written to a file that has no name any more is lost with the process: say so instead."""
        now = _identities(self.path)
        gone = [path.name for path, identity in self._files.items() if now.get(path) != identity]
        if gone:
            raise StoreAway(
                f"cannot write {self.path}: moved, deleted or replaced meanwhile ({', '.join(gone)})",
                remedy="put it back, or restart the node: it goes on with what is there then",
            )

    async def _rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of one query."""
        return await self._read(lambda connection: connection.execute(statement, values).fetchall())

    async def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work` with the reading connection in a thread."""
        return await trio.to_thread.run_sync(self._look, work, limiter=self._read_limit)

    def _look(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._reader
        if connection is None:
            raise self._not_open()
        with translated(self.path, "read"):
            return work(connection)

    def _not_open(self) -> StoreError:
        return StoreError(f"{self.path} is not open", remedy="open the store first")


def _identities(path: Path) -> dict[Path, tuple[int, int]]:
    """Which files the names of database and write-ahead log stand for now."""
    found: dict[Path, tuple[int, int]] = {}
    for name in (path, Path(f"{path}-wal")):
        try:
            status = os.stat(name)
        except FileNotFoundError:
            continue
        found[name] = (status.st_dev, status.st_ino)
    return found
