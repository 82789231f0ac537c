"""The apps file: what it may say, and that a bad one changes nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trionode.errors import ConfigError
from trionode.hosting.apps_file import AppsFile
from trionode.hosting.apps_text import parse_apps
from trionode.hosting.port import APPS_CHANGED, RunningApp
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters

HASH = "ab" * 32


def test_a_full_and_a_short_entry() -> None:
    apps = parse_apps(
        f'[[app]]\nname = "web"\nhash = "{HASH}"\nrunning_since = 2023-11-14T22:13:20.5Z\n[[app]]\nname="db"',
        "f",
    )
    assert apps == (
        RunningApp("web", HASH, 1_700_000_000_500),
        RunningApp("db", hashlib.sha256(b"db").hexdigest(), None),
    )
    assert parse_apps("", "f") == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[app]\n", "line 1"),
        ('apps = ["x"]', "unknown key 'apps'"),
        ('app = "x"', "no list of tables"),
        ('[[app]]\nname = ""', "app 1: name is ''"),
        ('[[app]]\nname = "a b"', "name is 'a b'"),
        ("[[app]]\nname = 5", "name is 5"),
        ('[[app]]\nname = "a"\nport = 1', "unknown key 'port'"),
        ('[[app]]\nname = "a"\nhash = "AB"', "hash is 'AB'"),
        ('[[app]]\nname = "a"\nrunning_since = 2023-11-14T22:13:20', "running_since is 2023"),
        ('[[app]]\nname = "a"\n[[app]]\nname = "a"', "there twice"),
    ],
)
def test_problems_are_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_apps(text, "apps.toml")
    assert problem in refused.value.message
    assert refused.value.message.startswith("apps.toml")
    assert refused.value.remedy


def write(path: Path, text: str, mtime_ns: int) -> None:
    path.write_text(text)
    os.utime(path, ns=(mtime_ns, mtime_ns))


@pytest.mark.trio
async def test_changes_are_seen_and_bad_files_change_nothing(
    autojump_clock: MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "apps.toml"
    bus, counters = EventBus(), Counters()
    apps = AppsFile(path, bus, counters)
    async with trio.open_nursery() as nursery:
        await nursery.start(apps.run)
        assert apps.apps() is None, "a file that was never there says nothing about the apps"
        await trio.sleep(10)
        assert counters["hosting.apps_file.bad"] == 1, "the same complaint is made once"
        assert "apps file not usable" in caplog.text

        write(path, '[[app]]\nname = "web"', 1)
        await trio.sleep(3)
        first = apps.apps()
        assert first is not None
        assert [app.name for app in first] == ["web"]

        write(path, '[[app]]\nname = "web"\nbroken', 2)
        await trio.sleep(10)
        assert apps.apps() == first
        assert counters["hosting.apps_file.bad"] == 2
        path.unlink()
        await trio.sleep(10)
        assert apps.apps() == first

        write(path, '[[app]]\nname = "db"', 3)
        await trio.sleep(3)
        path.touch()
        await trio.sleep(3)
        changes = [event.data["names"] for event in bus.replay() if event.name == APPS_CHANGED]
        assert changes == [["web"], ["db"]]
        assert counters["hosting.apps_file.read"] == 2
        nursery.cancel_scope.cancel()
