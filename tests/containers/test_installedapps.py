"""The local table in memory: rows closed and opened, what apps take, who is told (lifecycle.md §12, D-14)."""

from __future__ import annotations

from typing import Any

import pytest
from appworld import FakeOpener, app, part

from trionode.config.tree import ResourceSettings
from trionode.containers.installedapps import InstalledApps, closed_form, is_closed
from trionode.containers.monitors.hosted import Hosted, KnownSpecs
from trionode.plans.requirements import Amount
from trionode.registry.rows import CurrentSpec
from trionode.store.appregistry_current import CurrentSpecs
from trionode.store.localapps import MemoryLocalApps
from trionode.wire.jsjson import stringify

pytestmark = pytest.mark.trio


def hosted_of(apps: InstalledApps, specs: KnownSpecs) -> Hosted:
    """Nothing but the two tables is asked."""
    nobody: Any = None
    return Hosted(
        installed=apps,
        specs=specs,
        current=nobody,
        locations=nobody,
        node=nobody,
        logins=nobody,
        is_complete=lambda: True,
    )


def sealed() -> dict[str, object]:
    return app("hidden", part("db", cpu=2.0), enterprise="sealed", contacts=["x@example.org"])


async def test_only_an_encrypted_app_of_version_8_is_closed() -> None:
    assert closed_form(app("open", part("db"))) == app("open", part("db"))
    seven = app("seven", part("db"), version=7, enterprise="odd")
    assert closed_form(seven) == seven
    closed = closed_form(sealed())
    assert (closed["compose"], closed["contacts"]) == ([], [])
    assert is_closed(closed)
    assert not is_closed(sealed())


async def test_encrypted_apps_count_and_are_opened_once_more_when_they_can_be() -> None:
    store, opener = MemoryLocalApps(), FakeOpener()
    apps = InstalledApps(store, opener)
    await apps.load()
    await apps.put(sealed())
    assert apps.locked(ResourceSettings()) == Amount(2.0, 500, 5 + 12)
    assert apps.locked(ResourceSettings(), without="hidden") == Amount()
    later = InstalledApps(store, opener)
    await later.load()
    assert [one.components for one in later.installed()] == [()]
    assert await later.opened("hidden") is None
    opener.inside["hidden"] = {"compose": sealed()["compose"]}
    opened = await later.opened("hidden")
    assert opened is not None
    assert (opened["hash"], opened["height"]) == (sealed()["hash"], 2_100_000)
    assert [one.components[0].identifier for one in later.installed()] == ["db_hidden"]
    assert await InstalledApps(store).opened("hidden") is None


async def test_whoever_listens_hears_of_every_change() -> None:
    apps = InstalledApps(MemoryLocalApps())
    heard: list[frozenset[str]] = []
    apps.on_change(lambda: heard.append(apps.names()))
    await apps.load()
    await apps.put(app("shop", part("web")))
    await apps.put(app("shop", part("web"), hash="ff"))
    await apps.delete("nobody")
    await apps.delete("shop")
    assert heard == [frozenset(), frozenset({"shop"}), frozenset({"shop"}), frozenset()]
    assert apps.rows() == ()


async def test_names_are_told_apart_by_case_and_sorted() -> None:
    apps = InstalledApps(MemoryLocalApps())
    for name in ("b", "B", "a"):
        await apps.put(app(name, part("web")))
    assert [row.name for row in apps.rows()] == ["B", "a", "b"]
    assert apps.owners()["a"] == app("a")["owner"]
    assert apps.get("A") is None


async def test_the_plan_opens_nothing() -> None:
    opener, store = FakeOpener(), MemoryLocalApps()
    opener.inside["hidden"] = {"compose": sealed()["compose"]}
    current = CurrentSpecs()
    assert hosted_of(InstalledApps(store), KnownSpecs(current, None)).both_now("shop") is None
    for opens, open_now in ((opener, None), (None, False)):
        apps = InstalledApps(store, opens)
        await apps.load()
        hosted = hosted_of(apps, KnownSpecs(current, opens))
        await apps.put(app("shop", part("web"), hash="aa"))
        await apps.put(sealed())
        changed = app("shop", part("web", cpu=1.0))
        for spec in (changed, closed_form(sealed())):
            current.put(CurrentSpec(str(spec["name"]), stringify(dict(spec)), "bb", 7))
        both = hosted.both_now("shop")
        assert both is not None
        assert (both[0]["hash"], both[1]["hash"], both[2]) == ("aa", "bb", True)
        hidden = hosted.both_now("hidden")
        assert (hidden and hidden[2]) == open_now
