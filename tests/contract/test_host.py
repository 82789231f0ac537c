"""What every engine behind the AppHost port does the same (docs/spec/lifecycle.md §4, §13)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from trionode.errors import HostError
from trionode.hosting.apps_file import AppsFile
from trionode.hosting.memory import MemoryHost
from trionode.hosting.port import APP_REMOVED, APPS_CHANGED, AppHost
from trionode.lifecycle.local import Component, InstalledApp
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters

WEB = InstalledApp("web", "a" * 64, (Component("front_web", "/data"), Component("db_web", "/d")))
SHOP = InstalledApp("shop", "b" * 64, (Component("shop"),))
FILE = f"""\
# What runs here.

[[app]]
name = "web"   # two components
hash = "{"a" * 64}"
components = {{front = "/data", db = "/d"}}

# the shop
[[app]]
name = "shop"
hash = "{"b" * 64}"
"""

Make = Callable[[EventBus], AppHost]


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """An engine in which web and shop are installed and run."""

    def memory(bus: EventBus) -> AppHost:
        return MemoryHost([WEB, SHOP], bus=bus)

    def file(bus: EventBus) -> AppHost:
        path = tmp_path / "apps.toml"
        path.write_text(FILE)
        host = AppsFile(path, bus, Counters())
        host.sweep()
        return host

    return memory if request.param == "memory" else file


def changes(bus: EventBus) -> list[list[str]]:
    return [event.data["names"] for event in bus.replay() if event.name == APPS_CHANGED]


def running(host: AppHost) -> list[str]:
    return [app.name for app in host.apps() or ()]


async def states(host: AppHost) -> dict[str, str]:
    return {container.name: container.state for container in await host.containers()}


@pytest.mark.trio
async def test_what_is_installed_runs(make: Make) -> None:
    host = make(EventBus())
    assert host.installed() == (WEB, SHOP)
    assert host.names() == {"web", "shop"}
    assert running(host) == ["web", "shop"]
    assert await states(host) == {"fluxfront_web": "running", "fluxdb_web": "running", "fluxshop": "running"}


@pytest.mark.trio
async def test_an_app_with_a_stopped_container_is_installed_but_not_announced(make: Make) -> None:
    bus = EventBus()
    host = make(bus)
    before = len(changes(bus))
    await host.stop("fluxdb_web", 9)
    assert running(host) == ["shop"]
    assert host.names() == {"web", "shop"}
    assert (await states(host))["fluxdb_web"] == "exited"
    await host.stop("fluxdb_web", 9)
    await host.start("db_web")
    assert running(host) == ["web", "shop"]
    await host.kill("fluxfront_web")
    assert (await states(host))["fluxfront_web"] == "exited"
    assert changes(bus)[before:] == [["shop"], ["web", "shop"], ["shop"]], "told once for each change"


@pytest.mark.trio
async def test_a_removed_app_is_gone_with_its_containers(make: Make) -> None:
    bus = EventBus()
    host = make(bus)
    await host.remove("web", reason="test")
    assert host.installed() == (SHOP,)
    assert running(host) == ["shop"]
    assert set(await states(host)) == {"fluxshop"}
    assert changes(bus)[-1] == ["shop"]
    assert [event.data for event in bus.replay() if event.name == APP_REMOVED] == [{"name": "web"}]
    told = len(changes(bus))
    await host.remove("web", reason="again")
    assert len(changes(bus)) == told, "removing what is not there does nothing"


@pytest.mark.trio
async def test_a_container_that_is_not_there_cannot_be_started(make: Make) -> None:
    host = make(EventBus())
    with pytest.raises(HostError, match="fluxnone"):
        await host.start("none")
    await host.link()


@pytest.mark.trio
async def test_every_call_lets_other_tasks_run(make: Make) -> None:
    host = make(EventBus())
    with trio.testing.assert_checkpoints():
        await host.containers()
    with trio.testing.assert_checkpoints():
        await host.stop("fluxshop", 1)
    with trio.testing.assert_checkpoints():
        await host.start("shop")
    with trio.testing.assert_checkpoints():
        await host.remove("shop", reason="test")
