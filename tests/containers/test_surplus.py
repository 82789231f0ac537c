"""An app that runs too often leaves the node that started it last, at the blocks when that is looked at."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from fakeactions import FakeActions

from trionode.config.tree import ExplorerSettings, InstallerSettings
from trionode.containers.monitors.surplus import BLOCK, SurplusWatch
from trionode.containers.operations import Operation, Work
from trionode.plans.spawnneeds import Instance
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters

OWN = "198.51.100.1:16127"
DUE = 2_100_032
"""A multiple of 11 * 4."""


class OnePlace:
    own_address: str | None = OWN
    synced = True

    def __init__(self, wanted: int | None = 1) -> None:
        self._wanted = wanted

    def installed_names(self) -> tuple[str, ...]:
        return ("web",)

    def wanted(self, app: str) -> int | None:
        return self._wanted

    def running(self, app: str) -> tuple[Instance, ...]:
        return Instance("198.51.100.2:16127", 1_000), Instance(OWN, 2_000)


async def looked(places: OnePlace, actions: FakeActions, *heights: int) -> None:
    bus = EventBus()
    watch = SurplusWatch(
        ExplorerSettings(), InstallerSettings(), places=places, actions=actions, bus=bus, counters=Counters()
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(watch.run)
        for height in heights:
            bus.publish(BLOCK, {"height": height})
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_the_latest_gives_it_up_and_tells_the_peers() -> None:
    actions = FakeActions()
    await looked(OnePlace(), actions, DUE)
    (removal,) = actions.removed
    assert (removal.app, removal.force, removal.tell_peers) == ("web", False, True)
    assert "2 nodes run it, 1 are wanted" in removal.reason


@pytest.mark.trio
async def test_other_blocks_are_passed_by() -> None:
    actions = FakeActions()
    await looked(OnePlace(), actions, DUE - 1, DUE + 1, DUE + 11)
    assert actions.removed == []


@pytest.mark.trio
async def test_nobody_leaves_when_it_is_not_known_how_many_are_wanted() -> None:
    actions = FakeActions()
    await looked(OnePlace(wanted=None), actions, DUE)
    await looked(OnePlace(wanted=2), actions, DUE)
    behind = OnePlace()
    behind.synced = False
    await looked(behind, actions, DUE)
    assert actions.removed == []


@pytest.mark.trio
async def test_while_something_else_is_done_it_waits_for_the_next_time() -> None:
    actions = FakeActions()
    actions.under_way = Operation(Work.INSTALL, "shop")
    await looked(OnePlace(), actions, DUE)
    assert actions.removed == []
