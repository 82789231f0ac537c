"""Which errors of SQLite and the file system pass by themselves, and what is said of each."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio
from rig import wait_longer

from trionode.config.tree import NodeSettings
from trionode.errors import StoreAway, StoreError
from trionode.store.sqlite import open_sqlite
from trionode.store.sqlite_disk import SqliteDisk
from trionode.store.sqlite_failures import store_error

PATH = Path("/data/events.sqlite")


def failure(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("it said something")
    error.sqlite_errorcode, error.sqlite_errorname = getattr(sqlite3, name), name
    return error


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("SQLITE_FULL", "free some space"),
        ("SQLITE_IOERR_WRITE", "free some space"),
        ("SQLITE_IOERR_FSYNC", "kernel log"),
        ("SQLITE_IOERR_SHMSIZE", "free some space"),
        ("SQLITE_BUSY", "close the other program"),
        ("SQLITE_BUSY_SNAPSHOT", "close the other program"),
        ("SQLITE_LOCKED", "close the other program"),
        ("SQLITE_READONLY", "writable"),
        ("SQLITE_READONLY_ROLLBACK", "writable"),
        ("SQLITE_CANTOPEN", "writable"),
    ],
)
def test_what_passes(name: str, remedy: str) -> None:
    error = store_error(PATH, "write", failure(name))
    assert isinstance(error, StoreAway)
    assert remedy in error.remedy
    assert str(PATH) in error.message


@pytest.mark.parametrize(
    "name",
    [
        "SQLITE_CORRUPT",
        "SQLITE_NOTADB",
        "SQLITE_CONSTRAINT",
        "SQLITE_ERROR",
        "SQLITE_READONLY_DBMOVED",
        "SQLITE_IOERR_CORRUPTFS",
        "SQLITE_IOERR_DATA",
    ],
)
def test_what_does_not(name: str) -> None:
    assert type(store_error(PATH, "write", failure(name))) is StoreError


@pytest.mark.parametrize("name", ["SQLITE_READONLY", "SQLITE_CANTOPEN"])
def test_at_the_start_wrong_rights_are_told_at_once(name: str) -> None:
    assert type(store_error(PATH, "open", failure(name))) is StoreError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE])
def test_errors_of_the_system_that_pass(number: int) -> None:
    error = store_error(PATH, "open", OSError(number, os.strerror(number)))
    assert isinstance(error, StoreAway)
    assert error.remedy


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOTDIR, errno.EISDIR])
def test_errors_of_the_system_that_do_not(number: int) -> None:
    assert type(store_error(PATH, "open", OSError(number, os.strerror(number)))) is StoreError


@pytest.mark.trio
async def test_a_start_waits_for_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Path] = []

    def full_twice(path: Path) -> int:
        tries.append(path)
        if len(tries) < 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)

    monkeypatch.setattr("trionode.store.sqlite_file.take_ownership", full_twice)
    disk = SqliteDisk(str(tmp_path), patience_s=60.0)
    async with open_sqlite(tmp_path / "events.sqlite", disk) as store:
        assert await store.get_meta("k") is None
    assert len(tries) == 3
    assert disk.availability.counters["store.sqlite.losses"] == 1


@pytest.mark.trio
async def test_a_start_without_patience_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("trionode.store.sqlite_file.take_ownership", full)
    with pytest.raises(StoreAway, match="No space") as caught:
        async with open_sqlite(tmp_path / "events.sqlite"):
            pass
    assert "free some space" in caught.value.remedy


@pytest.mark.trio
async def test_a_lock_is_waited_for_a_moment_but_not_beyond_the_grace_of_a_stop(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "events.sqlite") as store:
        assert store._writer is not None
        ((wait_ms,),) = store._writer.execute("PRAGMA busy_timeout").fetchall()
        # The commit under way when the stop comes, and the last one of the event log.
        assert 0.2 < 2 * wait_ms / 1000 < NodeSettings().shutdown_grace_s
        wait_longer(store)
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.put_meta, "k", "v")
                await trio.sleep(0.1)
                other.execute("COMMIT")
        assert await store.get_meta("k") == "v"
