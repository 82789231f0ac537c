"""SqliteStore: what can go wrong with a file, told with the remedy; and atomicity."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from trionode.appstate.changes import Change, PutLocation
from trionode.appstate.documents import LocationRow
from trionode.config.tree import StoreSettings
from trionode.errors import StoreAway, StoreError
from trionode.store.memory import MemoryStore
from trionode.store.open import open_event_store
from trionode.store.sqlite import SqliteStore, open_sqlite

pytestmark = pytest.mark.trio


def puts(count: int, start: int = 1, name: str = "A") -> list[Change]:
    return [
        PutLocation(LocationRow(number, name, "h", "1.1.1.1", 1, 2, None, None, None))
        for number in range(start, start + count)
    ]


async def open_fails(path: Path) -> StoreError:
    with pytest.raises(StoreError) as caught:
        async with open_sqlite(path):
            pass
    assert str(path) in caught.value.message
    assert caught.value.remedy
    return caught.value


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = await open_fails(tmp_path / "file" / "log.sqlite")
    assert "writable" in error.remedy


async def test_an_unwritable_folder(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        # The superuser may write anywhere but to what cannot be written at all.
        folder = Path("/proc/1")
    else:
        folder = tmp_path / "closed"
        folder.mkdir(mode=0o500)
    error = await open_fails(folder / "log.sqlite")
    assert "writable" in error.remedy


async def test_a_path_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "log.sqlite").mkdir()
    await open_fails(tmp_path / "log.sqlite")


async def test_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"not a database" * 1000)
    assert "move the file away" in (await open_fails(path)).remedy


async def test_the_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE notes (text)")
    other.close()
    assert "another program" in (await open_fails(path)).message


async def test_a_schema_of_the_future(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    async with open_sqlite(path):
        pass
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    assert "99" in (await open_fails(path)).message


async def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    async with open_sqlite(path) as store:
        await store.commit(puts(5000))
    content = bytearray(path.read_bytes())
    for page in range(8, len(content) // 4096, 3):
        content[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    path.write_bytes(content)
    assert "move the file away" in (await open_fails(path)).remedy


@pytest.mark.process
async def test_a_file_in_use_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    program = (
        "import sys, trio\nfrom pathlib import Path\nfrom trionode.store.sqlite import open_sqlite\n"
        "async def main():\n"
        "    async with open_sqlite(Path(sys.argv[1])):\n"
        "        print('open', flush=True)\n"
        "        sys.stdin.read()\n"
        "trio.run(main)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:  # noqa: ASYNC220 - starting takes a moment only
        assert other.stdout is not None
        assert await trio.to_thread.run_sync(other.stdout.readline) == "open\n"
        assert "in use by another process" in (await open_fails(path)).message
        other.kill()
        await trio.to_thread.run_sync(other.wait)
    async with open_sqlite(path) as store:
        assert (await store.counts())["locations"] == 0


async def test_a_full_disk_fails_the_whole_commit_and_only_that(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "log.sqlite") as store:
        await store.commit(puts(10))
        assert store._writer is not None
        (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
        store._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StoreError, match="full") as caught:
            await store.commit(puts(5000, start=100))
        assert "free some space" in caught.value.remedy
        assert (await store.counts())["locations"] == 10
        store._writer.execute("PRAGMA max_page_count = 1000000")
        await store.commit(puts(5000, start=100))
        assert (await store.counts())["locations"] == 5010


async def test_a_change_that_cannot_be_written_undoes_its_commit(tmp_path: Path) -> None:
    async with open_sqlite(tmp_path / "log.sqlite") as store:
        bad = puts(1, start=9, name="\ud800")
        with pytest.raises(UnicodeEncodeError):
            await store.commit([*puts(5), *bad])
        assert (await store.counts())["locations"] == 0
        await store.commit(puts(5))
        assert (await store.counts())["locations"] == 5


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "log.sqlite")
    for work in (store.counts(), store.put_meta("a", "b"), store.commit(puts(1))):
        with pytest.raises(StoreError, match="not open"):
            await work
    with pytest.raises(StoreError, match="waiting"):
        store.commit_now([])
    await store.aclose()


async def test_files_are_private_and_left_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "log.sqlite"
    async with open_sqlite(path) as store:
        await store.commit(puts(3))
    assert sorted(file.name for file in path.parent.iterdir()) == ["log.sqlite", "log.sqlite.lock"]
    assert path.parent.stat().st_mode & 0o077 == 0


async def test_stores_are_chosen_by_their_address(tmp_path: Path) -> None:
    async with open_event_store(StoreSettings(url="memory:"), tmp_path) as opened:
        assert isinstance(opened.events, MemoryStore)
        assert opened.server is None
    async with open_event_store(StoreSettings(), tmp_path) as opened:
        assert isinstance(opened.events, SqliteStore)
        assert opened.events.path == tmp_path / "events.sqlite"
        assert opened.server is opened.events.disk
    async with open_event_store(StoreSettings(url="sqlite:other.db"), tmp_path) as opened:
        assert isinstance(opened.events, SqliteStore)
        assert opened.events.path == tmp_path / "other.db"
    with pytest.raises(StoreError, match="postgres"):
        async with open_event_store(StoreSettings(url="postgres:x"), tmp_path):
            pass


async def test_readers_go_on_while_a_commit_takes_long_and_fails(tmp_path: Path) -> None:
    """They see what was there before it, while it runs and after."""
    async with open_sqlite(tmp_path / "log.sqlite") as store:
        await store.commit(puts(3))
        let_go = threading.Event()
        is_writing = trio.Event()
        seen: list[int] = []

        def hang(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM locations")
            trio.from_thread.run_sync(is_writing.set)
            assert let_go.wait(300)
            connection.execute("no statement")

        async def fail() -> None:
            with pytest.raises(StoreError, match="syntax error"):
                await store._write(hang)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await is_writing.wait()
            with trio.move_on_after(120):
                for _ in range(3):
                    seen.append((await store.counts())["locations"])
                    seen.append(len([row async for row in store.load()]))
            let_go.set()
        assert seen == [3] * 6
        assert (await store.counts())["locations"] == 3
        await store.commit(puts(1, start=9))


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced", "log deleted"])
async def test_nothing_is_acknowledged_into_a_file_that_is_gone(how: str, tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    aside = tmp_path / "aside"
    aside.mkdir()
    async with open_sqlite(path) as store:
        await store.commit(puts(3))
        if how == "log deleted":
            Path(f"{path}-wal").unlink()  # noqa: ASYNC240 - a moment only
        elif how == "deleted":
            path.unlink()
        else:
            for file in tmp_path.glob("log.sqlite*"):  # noqa: ASYNC240
                file.rename(aside / file.name)
            if how == "replaced":
                path.write_bytes(b"")
        for _ in range(2):
            with pytest.raises(StoreAway, match="moved, deleted or replaced") as caught:
                await store.put_meta("a", "b")
            assert "put it back" in caught.value.remedy
        assert await store.get_meta("a") is None, "the write was taken back"
        assert (await store.counts())["locations"] == 3, "what is there can still be read"
        if how == "moved":
            for file in aside.iterdir():
                file.rename(tmp_path / file.name)
            await store.put_meta("a", "b")
    if how == "moved":
        async with open_sqlite(path) as again:
            assert await again.get_meta("a") == "b"
