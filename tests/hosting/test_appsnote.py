"""A node that had apps does not start on a database that knows of none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio

from trionode.config.tree import StoreSettings
from trionode.containers.install import records
from trionode.errors import StartupError
from trionode.hosting.appsnote import AGAIN_S, RECORDS, AppsNote, refuse_forgotten
from trionode.registry.rows import CurrentSpec
from trionode.store.localapps import MemoryLocalApps
from trionode.store.open import apps_in_files, open_stores

pytestmark = pytest.mark.trio

SHOP = CurrentSpec("Shop", '{"name":"Shop"}', "h", 5)


async def nothing() -> Sequence[str]:
    return ()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(120):
        while not condition():  # noqa: ASYNC110 - files and log lines wake nobody
            await trio.sleep(0.01)


def apps_in(path: Path) -> list[str] | None:
    """What the note says, None while there is none."""
    return list(json.loads(path.read_text())["apps"]) if path.exists() else None


async def start(local: MemoryLocalApps, path: Path) -> None:
    await refuse_forgotten(local, path, "MongoDB 127.0.0.1", before=nothing)


async def noted(path: Path, *names: str) -> None:
    """A life in which these apps were installed at last."""
    note = AppsNote(path, "SQLite /var/lib/trionode", lambda: names)
    async with trio.open_nursery() as nursery:
        await nursery.start(note.run)
        note.changed()
        await until(lambda: set(names) <= set(apps_in(path) or ()))
        nursery.cancel_scope.cancel(reason="end of that life")


async def test_an_empty_table_after_a_life_with_apps_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    await start(MemoryLocalApps(), path)
    await noted(path, "Web", "Shop")
    with pytest.raises(StartupError) as caught:
        await start(MemoryLocalApps(), path)
    line = caught.value.one_line()
    assert "this node had Shop, Web installed in SQLite /var/lib/trionode" in line
    assert "MongoDB 127.0.0.1 knows of no app" in line
    assert "trionode store copy FROM TO" in line
    assert str(path) in line
    # As the remedy says.
    path.write_text('{"store":"","apps":[]}')
    await start(MemoryLocalApps(), path)


async def test_a_table_with_apps_or_one_that_had_some_is_right(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    await noted(path, "Shop", "Web")
    copied, emptied = MemoryLocalApps(), MemoryLocalApps()
    await copied.put(SHOP)
    await start(copied, path)
    await emptied.put_meta(RECORDS, "[]")
    await start(emptied, path)
    assert RECORDS == records.KEY


async def test_the_last_app_that_goes_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    await noted(path, "Shop")
    names = ["Shop"]
    note = AppsNote(path, "SQLite", lambda: names)
    async with trio.open_nursery() as nursery:
        await nursery.start(note.run)
        names.clear()
        note.changed()
        await until(lambda: apps_in(path) == [])
        nursery.cancel_scope.cancel(reason="end of the test")
    await start(MemoryLocalApps(), path)
    assert path.stat().st_mode & 0o077 == 0


async def test_a_note_that_cannot_be_read_is_no_empty_note(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    path.write_text("{")
    with pytest.raises(StartupError, match="cannot be read"):
        await start(MemoryLocalApps(), path)


async def test_without_a_note_the_file_of_the_data_folder_tells(tmp_path: Path) -> None:
    """A node of an older version that is switched to MongoDB without a copy."""
    assert list(await apps_in_files(tmp_path)) == []
    assert not (tmp_path / "local.sqlite").exists()
    async with open_stores(StoreSettings(), tmp_path) as stores:
        await stores.local.put(SHOP)
    with pytest.raises(StartupError, match="this node had Shop installed, and"):
        await refuse_forgotten(
            MemoryLocalApps(), tmp_path / "note.json", "MongoDB", before=lambda: apps_in_files(tmp_path)
        )


async def test_a_note_that_cannot_be_written_is_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trionode.hosting.appsnote.AGAIN_S", 0.01)
    path = tmp_path / "folder" / "note.json"
    note = AppsNote(path, "SQLite", lambda: ["Shop"])
    async with trio.open_nursery() as nursery:
        await nursery.start(note.run)
        note.changed()
        await until(lambda: "not noted" in caplog.text)
        path.parent.mkdir()
        await until(lambda: apps_in(path) == ["Shop"])
        nursery.cancel_scope.cancel(reason="end of the test")
    assert AGAIN_S == 60
