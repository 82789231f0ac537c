"""An app that fills the disk outside its volumes is made anew, and in the end removed."""

from __future__ import annotations

from typing import cast

import pytest
import trio
import trio.testing
from fakeactions import FakeActions

from trionode.config.tree import BootSettings, MonitorSettings
from trionode.containers.engine import Engine, EngineUnreachable, NotFound
from trionode.containers.monitors.storage import StorageWatch
from trionode.lifecycle.local import Component, InstalledApp
from trionode.plans.rootsize import ROOT_BYTES, RootVerdict, judge_root
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate

SHOP = InstalledApp("shop", "aa", (Component("db_shop", "/data"), Component("web_shop", "/data")))


class Sizes:
    """An engine that knows sizes."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes
        self.away = False

    def installed(self) -> list[InstalledApp]:
        return [SHOP]

    async def root_bytes(self, container: str) -> int:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise EngineUnreachable("the engine is away")
        if container not in self.sizes:
            raise NotFound("no such container")
        return self.sizes[container]


async def watched(
    sizes: Sizes, actions: FakeActions, seconds: float, boot: BootSettings | None = None
) -> None:
    gate = Gate(is_open=True)
    watch = StorageWatch(
        MonitorSettings(),
        boot or BootSettings(),
        installed=sizes,
        engine=cast("Engine", sizes),
        actions=actions,
        boot_settled=gate,
        counters=Counters(),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("total", "components", "violations", "verdict"),
    [
        (ROOT_BYTES, 1, 0, RootVerdict.FINE),
        (ROOT_BYTES + 1, 1, 0, RootVerdict.REDEPLOY),
        (2 * ROOT_BYTES, 2, 3, RootVerdict.FINE),
        (ROOT_BYTES + 1, 1, 2, RootVerdict.REDEPLOY),
        (ROOT_BYTES + 1, 1, 3, RootVerdict.REMOVE),
    ],
)
def test_the_fourth_time_is_the_last(
    total: int, components: int, violations: int, verdict: RootVerdict
) -> None:
    assert judge_root(total, components, violations) is verdict


@pytest.mark.trio
async def test_it_is_made_anew_three_times_and_then_removed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    actions = FakeActions()
    await watched(Sizes(fluxdb_shop=2 * ROOT_BYTES, fluxweb_shop=1), actions, 4 * 3600)
    assert actions.done[:4] == [("soft", "shop")] * 3 + [("remove", "shop")]
    assert actions.removed[0].tell_peers
    assert "25.2 GB" in actions.removed[0].reason


@pytest.mark.trio
async def test_the_first_look_follows_the_boot_schedule(autojump_clock: trio.testing.MockClock) -> None:
    sizes, usual, actions = Sizes(fluxdb_shop=2 * ROOT_BYTES, fluxweb_shop=1), FakeActions(), FakeActions()
    await watched(sizes, usual, 1199)
    await watched(sizes, actions, 121, BootSettings(delay_factor=0.1))
    assert (usual.done, actions.done) == ([], [("soft", "shop")])


@pytest.mark.trio
@pytest.mark.parametrize("what", ["fits", "a part is missing", "away"])
async def test_what_fits_or_is_not_known_is_let_alone(
    autojump_clock: trio.testing.MockClock, what: str
) -> None:
    sizes = Sizes(fluxdb_shop=2 * ROOT_BYTES - 5, fluxweb_shop=5)
    if what == "a part is missing":
        sizes.sizes = {"fluxdb_shop": 5 * ROOT_BYTES}
    sizes.away = what == "away"
    actions = FakeActions()
    await watched(sizes, actions, 4 * 3600)
    assert actions.done == []
