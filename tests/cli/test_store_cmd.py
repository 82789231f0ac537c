"""`trionode store check` and `copy`: what they say and end with, and that they leave the rest alone."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from nodedata import NOW_MS, fill, running

from trionode.appstate.changes import PutEvent
from trionode.appstate.facts import fact_of
from trionode.cli import exitcodes
from trionode.cli.main import call
from trionode.config.tree import StoreSettings
from trionode.store.copying import Side
from trionode.store.copymark import MARKER
from trionode.store.open import open_stores


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRIONODE_CONFIG", raising=False)


def filled(path: Path, **sizes: int) -> str:
    url = f"sqlite:{path}"

    async def work() -> None:
        async with open_stores(StoreSettings(url=url), path.parent) as stores:
            await fill(Side("", stores.events, stores.registry, stores.local), **sizes)

    path.parent.mkdir(exist_ok=True)
    trio.run(work)
    return url


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = call(["store", *arguments, "--json"])
    return json.loads(capsys.readouterr().out) | {"code": code}


def test_check_tells_what_a_file_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = filled(tmp_path / "a" / "events.sqlite")
    found = said(capsys, "check", url)
    assert found["code"] == exitcodes.OK
    assert dict(found["holds"]) | {"events": 41, "permanents": 40, "hashes": 50} == dict(found["holds"])
    assert found["facts"] == {"read to block": "1104"}
    assert call(["store", "check", f"sqlite:{tmp_path / 'a'}"]) == exitcodes.OK, "a folder will do too"
    assert "nothing is wrong" in capsys.readouterr().out


def test_check_finds_orphans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = filled(tmp_path / "events.sqlite")
    row = msgspec.structs.replace(running(3, ("AppB",), NOW_MS + 1))

    async def spoil() -> None:
        async with open_stores(StoreSettings(url=url), tmp_path) as stores:
            await stores.events.commit([PutEvent(row, fact_of(row))])

    trio.run(spoil)
    found = said(capsys, "check", url)
    assert {(one["where"], one["severity"], one["examples"][0]) for one in found["findings"]} == {
        ("locations", "note", "AppA at 10.0.0.3"),
        ("events", "note", "AppB at 10.0.0.3"),
    }


def test_copy_and_its_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, target = filled(tmp_path / "a" / "events.sqlite"), f"sqlite:{tmp_path / 'b' / 'events.sqlite'}"
    assert call(["store", "copy", url, target]) == exitcodes.OK
    shown = capsys.readouterr().out
    assert "both hold the same" in shown
    assert "paid messages   40" in shown
    assert call(["store", "copy", url, target]) == exitcodes.FAILURE
    assert "is not empty: it holds" in capsys.readouterr().err


def test_a_copy_that_was_cut_off_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, target = filled(tmp_path / "a" / "events.sqlite"), f"sqlite:{tmp_path / 'events.sqlite'}"

    async def begin() -> None:
        async with open_stores(StoreSettings(url=target), tmp_path) as stores:
            await stores.events.put_meta(MARKER, "unfinished")
            await stores.events.commit([PutEvent(running(5), fact_of(running(5)))])

    trio.run(begin)
    assert said(capsys, "copy", url, target)["equal"]


def test_an_unfinished_copy_is_told_and_may_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = filled(tmp_path / "a" / "events.sqlite")

    async def mark() -> None:
        async with open_stores(StoreSettings(url=url), tmp_path) as stores:
            await stores.events.put_meta(MARKER, "unfinished:ab")

    trio.run(mark)
    found = said(capsys, "check", url)
    assert found["code"] == exitcodes.FAILURE
    assert [one["what"] for one in found["findings"]] == ["an unfinished copy, on which no node starts"]
    assert call(["store", "keep", url]) == exitcodes.OK
    assert "`trionode run` starts on it" in capsys.readouterr().out
    assert said(capsys, "check", url)["code"] == exitcodes.OK
    assert call(["store", "keep", url]) == exitcodes.FAILURE
    assert "is no unfinished copy" in capsys.readouterr().err


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_check_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = filled(tmp_path / "a" / "events.sqlite")
    before = contents(tmp_path / "a")
    assert said(capsys, "check", url)["code"] == exitcodes.OK
    assert contents(tmp_path / "a") == before
    # Files that are not there are told and not made.
    for name in ("registry.sqlite", "local.sqlite.lock", "local.sqlite"):
        (tmp_path / "a" / name).unlink()
    before = contents(tmp_path / "a")
    found = said(capsys, "check", url)
    (missing,) = [one for one in found["findings"] if one["where"] == "files"]
    assert missing["examples"] == ["local.sqlite", "registry.sqlite"]
    assert dict(found["holds"])["events"] == 41
    assert contents(tmp_path / "a") == before


@pytest.mark.process
def test_check_looks_into_the_files_of_a_running_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a" / "events.sqlite"
    url = filled(path)

    async def look() -> None:
        async with open_stores(StoreSettings(url=url), tmp_path) as stores:
            row = running(77)
            await stores.events.commit([PutEvent(row, fact_of(row))])
            before = contents(path.parent)
            assert before["events.sqlite-wal"]
            # Another process, as an operator would: this one holds the lock already.
            arguments = [sys.executable, "-m", "trionode", "store", "check", url, "--json"]
            done = await trio.run_process(arguments, capture_stdout=True)
            found = json.loads(done.stdout)
            assert dict(found["holds"])["events"] == 42
            assert "in use" in found["facts"]
            after = contents(path.parent)
            assert after.keys() == before.keys()
            assert all(after[name] == before[name] for name in before if not name.endswith("-shm"))
            await stores.events.put_meta("a", "b")

    trio.run(look)


def test_check_reads_what_a_killed_node_left_in_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = filled(tmp_path / "a" / "events.sqlite")
    killed = tmp_path / "killed"

    async def leave() -> None:
        async with open_stores(StoreSettings(url=url), tmp_path) as stores:
            row = running(77)
            await stores.events.commit([PutEvent(row, fact_of(row))])
            # As kill -9 leaves it, or a backup that took the files with their logs.
            shutil.copytree(tmp_path / "a", killed)

    trio.run(leave)
    for shm in (True, False):
        if not shm:
            for left in killed.glob("*-shm"):
                left.unlink()
        before = contents(killed)
        assert dict(said(capsys, "check", f"sqlite:{killed}")["holds"])["events"] == 42
        after = contents(killed)
        assert after.keys() == before.keys()
        assert all(after[name] == before[name] for name in before if not name.endswith("-shm"))


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("check", "sqlite:nowhere"), exitcodes.FAILURE, "there is no database at"),
        (("check", "postgres://x"), exitcodes.FAILURE, "is no database"),
        (("copy", "sqlite:a", "sqlite:a"), exitcodes.FAILURE, "the same database"),
        (("copy", "sqlite:nowhere", "sqlite:b"), exitcodes.FAILURE, "there is no database at"),
        (("check", "mongodb://127.0.0.1:1", "--prefix", "a.b"), exitcodes.CONFIG, "store.mongo_prefix"),
        (("copy", "sqlite:a"), exitcodes.USAGE, "TO"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[str, ...], code: int, told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(["store", *arguments]) == code
    assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("*")), "nothing is made in passing"


def test_a_password_is_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    url = "mongodb://me:secret@127.0.0.1:1/?serverSelectionTimeoutMS=100"
    assert call(["--set", "store.mongo_connect_s=0.2", "store", "check", url]) == exitcodes.FAILURE
    err = capsys.readouterr().err
    assert "secret" not in err
    assert "127.0.0.1:1" in err
