"""What the settings of an SQLite file are for: whole after any death, patient with a short lock, and emptied.

Each test fails when the setting it is about is changed (sqlite_file.py).
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from rig import running_log, wait_longer

from trionode.appstate.changes import PutLocation
from trionode.appstate.documents import LocationRow
from trionode.errors import StoreAway
from trionode.registry.rows import CurrentSpec
from trionode.store.localapps import open_sqlite_local
from trionode.store.registry_sqlite import open_sqlite_registry
from trionode.store.sqlite import open_sqlite
from trionode.store.sqlite_file import SqliteFile

VICTIM = """
import os, signal, sys, trio
from pathlib import Path
from trionode.store.localapps import open_sqlite_local

async def main():
    async with open_sqlite_local(Path(sys.argv[1])) as store:
        def fill(connection):
            for number in range(500):
                row = (f"App{number:03d}", "x" * 1000)
                connection.execute("INSERT INTO local_apps VALUES (?, 'old', 1, ?)", row)
        def die(connection):
            # More than the cache may hold: changed pages go to the disk before the commit.
            connection.execute("PRAGMA cache_size = 5")
            connection.execute("UPDATE local_apps SET hash = 'new'")
            os.kill(os.getpid(), signal.SIGKILL)
        await store._write(fill)
        await store._write(die)

trio.run(main)
"""


@pytest.mark.process
def test_death_in_the_middle_of_a_large_commit_leaves_what_was(tmp_path: Path) -> None:
    """Pages that were written before the commit are no part of the file: that is what the log is for."""
    path = tmp_path / "local.sqlite"
    done = subprocess.run([sys.executable, "-c", VICTIM, str(path)], check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL

    async def hashes() -> list[str]:
        async with open_sqlite_local(path) as store:
            return [row.hash for row in await store.rows()]

    assert trio.run(hashes) == ["old"] * 500
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()


@pytest.mark.trio
async def test_only_what_nobody_else_has_waits_for_the_disk(tmp_path: Path) -> None:
    async with (
        open_sqlite(tmp_path / "events.sqlite") as events,
        open_sqlite_registry(tmp_path / "registry.sqlite") as registry,
        open_sqlite_local(tmp_path / "local.sqlite") as local,
    ):

        def level(file: SqliteFile) -> tuple[str, int]:
            assert file._writer is not None
            (mode,) = file._writer.execute("PRAGMA journal_mode").fetchone()
            (synchronous,) = file._writer.execute("PRAGMA synchronous").fetchone()
            return mode, synchronous

        normal, full = 1, 2
        assert [level(file) for file in (events, registry, local)] == [
            ("wal", normal),
            ("wal", normal),
            ("wal", full),
        ]


@pytest.mark.trio
async def test_another_program_that_holds_the_file_for_a_moment_costs_no_write(tmp_path: Path) -> None:
    """Also where nothing is tried again: a backup or a person looks in."""
    path = tmp_path / "local.sqlite"
    async with open_sqlite_local(path) as store, trio.open_nursery() as nursery:
        wait_longer(store)
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        nursery.start_soon(store.put, CurrentSpec("Shop", "{}", "h", 1))
        await trio.sleep(0.3)
        assert await store.rows() == []
        other.execute("ROLLBACK")
        other.close()
        with trio.fail_after(120):
            while not await store.rows():  # noqa: ASYNC110 - another connection's commit wakes nobody
                await trio.sleep(0.01)


@pytest.mark.trio
@pytest.mark.parametrize("kind", ["events", "registry", "local"])
async def test_a_disk_that_fills_up_in_the_middle_leaves_each_file_as_it_was(
    kind: str, tmp_path: Path
) -> None:
    async with (
        open_sqlite(tmp_path / "events.sqlite") as events,
        open_sqlite_registry(tmp_path / "registry.sqlite") as registry,
        open_sqlite_local(tmp_path / "local.sqlite") as local,
    ):
        files: dict[str, SqliteFile] = {"events": events, "registry": registry, "local": local}
        file = files[kind]

        async def write(text: str) -> None:
            if kind == "events":
                row = LocationRow(1, text, "h", "1.1.1.1", 1, 2, None, None, None)
                await events.commit([PutLocation(row)])
            elif kind == "registry":
                await registry.put_meta("a", text)
            else:
                await local.put_meta("a", text)

        async def read() -> str | None:
            if kind == "events":
                (row,) = [row async for row in events.load()]
                assert isinstance(row, LocationRow)
                return row.name
            return await (registry if kind == "registry" else local).get_meta("a")

        await write("before")
        assert file._writer is not None
        (pages,) = file._writer.execute("PRAGMA page_count").fetchone()
        file._writer.execute(f"PRAGMA max_page_count = {pages}")
        for _ in range(2):
            with pytest.raises(StoreAway, match="full") as caught:
                await write("x" * 100_000)
            assert "free some space" in caught.value.remedy
            assert await read() == "before"
        file._writer.execute("PRAGMA max_page_count = 1000000")
        await write("y" * 100_000)
        assert await read() == "y" * 100_000


@pytest.mark.trio
async def test_what_expires_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that runs for years does not fill its disk with what nobody lists any more."""
    monkeypatch.setattr("trionode.store.eventlog._CLOCK_CHECK_S", 0.05)
    async with open_sqlite(tmp_path / "events.sqlite") as store, running_log(store) as rig:
        for number in range(5):
            await rig.log.ingest(rig.running("A", "B", ip=f"1.1.1.{number}"))
        now_ms = rig.clock.now_ms()
        begun = {
            "type": "fluxappinstalling",
            "version": 1,
            "name": "C",
            "ip": "1.1.1.9",
            "broadcastedAt": now_ms,
        }
        await rig.log.ingest(rig.envelope(begun))
        failed = {"type": "fluxappinstallingerror", "version": 1, "name": "X", "hash": "h", "error": "e"}
        await rig.log.ingest(rig.envelope(failed | {"ip": "1.1.1.8", "broadcastedAt": now_ms}))
        counts = await store.counts()
        assert all(counts.values()), "there is something of every kind"
        rig.clock.skew_ms += 40 * 24 * 3600 * 1000
        with trio.fail_after(120):
            while any((await store.counts()).values()):  # noqa: ASYNC110 - a file wakes nobody
                await trio.sleep(0.05)
        assert rig.places() == []
