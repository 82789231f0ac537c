"""Taking an app out of an apps file leaves the rest as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.errors import ConfigError, HostError
from trionode.hosting.apps_file import AppsFile
from trionode.hosting.apps_text import parse_entries, without_app
from trionode.lifecycle.local import Component
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters

TEXT = """\
# What this node runs.

# the first
[[app]]
name = "web"
components = {front = "/data", db = "g:/data"}

# about the shop
[[app]]
name = "shop"  # open all night
running_since = 2026-01-31T12:00:00Z

[[app]]
name = "db"
# the end
"""


def test_components_are_read_in_order() -> None:
    web, shop, _ = parse_entries(TEXT, "here")
    assert web.components == (Component("front_web", "/data"), Component("db_web", "g:/data"))
    assert shop.components == (Component("shop"),)
    for bad in ("3", "{a = 1}", '{"a b" = ""}', "[1]"):
        with pytest.raises(ConfigError, match="components"):
            parse_entries(f'[[app]]\nname = "web"\ncomponents = {bad}', "here")


@pytest.mark.parametrize(
    ("name", "gone", "kept"),
    [
        ("web", ['name = "web"'], ["# What this node runs.", "# about the shop", "# open all night"]),
        ("shop", ['name = "shop"', "# about the shop"], ["# What this node runs.", "# the first"]),
        ("db", ['name = "db"'], ["# What this node runs.", "# the first", "# about the shop"]),
    ],
)
def test_only_the_entry_and_its_comments_go(name: str, gone: list[str], kept: list[str]) -> None:
    left = without_app(TEXT, name, "here")
    assert [entry.name for entry in parse_entries(left, "here")] == [
        n for n in ("web", "shop", "db") if n != name
    ]
    assert not any(text in left for text in gone)
    assert all(text in left for text in kept)


def test_an_unusual_form_is_written_anew() -> None:
    since = "2026-01-31T12:00:00.5Z"
    text = (
        f'app = [{{name = "web", components = {{a = "r:/x"}}}}, {{name = "shop", running_since = {since}}}]'
    )
    before = {entry.name: entry for entry in parse_entries(text, "here")}
    assert parse_entries(without_app(text, "shop", "here"), "here") == (before["web"],)
    assert parse_entries(without_app(text, "web", "here"), "here") == (before["shop"],)


@given(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1), st.data())
def test_taking_out_one_by_one_ends_with_an_empty_list(names: list[str], data: st.DataObject) -> None:
    comment = st.sampled_from(["", "# a comment\n", "\n# two\n\n"])
    text = "".join(f'{data.draw(comment)}[[app]]\nname = "{name}"\n' for name in names)
    for name in data.draw(st.permutations(names)):
        names.remove(name)
        text = without_app(text, name, "here")
        assert [entry.name for entry in parse_entries(text, "here")] == names


def test_an_app_that_is_not_there_changes_nothing() -> None:
    assert without_app(TEXT, "none", "here") == TEXT


@pytest.mark.trio
async def test_after_a_reboot_containers_stand_still_until_they_are_started(tmp_path: Path) -> None:
    path = tmp_path / "apps.toml"
    path.write_text(TEXT)
    host = AppsFile(path, EventBus(), Counters(), rebooted=lambda: True)
    host.sweep()
    assert [app.name for app in host.apps() or ()] == ["web"], "one with an election may stand by"
    await host.start("shop")
    assert [app.name for app in host.apps() or ()] == ["web", "shop"]
    path.write_text(TEXT + '[[app]]\nname = "late"\n')
    host.sweep()
    assert [app.name for app in host.apps() or ()] == ["web", "shop", "late"], "what is added later runs"


@pytest.mark.trio
async def test_a_removal_keeps_the_access_rights_and_is_seen_at_once(tmp_path: Path) -> None:
    path = tmp_path / "apps.toml"
    path.write_text(TEXT)
    path.chmod(0o640)
    host = AppsFile(path, EventBus(), Counters())
    host.sweep()
    await host.remove("web", reason="test")
    assert [row.name for row in host.installed()] == ["shop", "db"]
    assert path.stat().st_mode & 0o777 == 0o640
    assert not path.with_name("apps.toml.new").exists()


@pytest.mark.trio
async def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    path = tmp_path / "apps.toml"
    path.write_text(TEXT)
    host = AppsFile(path, EventBus(), Counters())
    host.sweep()
    path.write_text("broken")
    with pytest.raises(HostError):
        await host.remove("web", reason="test")
    path.unlink()
    with pytest.raises(HostError, match="cannot take web out"):
        await host.remove("web", reason="test")
    assert len(host.installed()) == 3
