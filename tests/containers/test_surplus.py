"""An app that runs too often leaves the node that started it last, at the blocks when that is looked at."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio
import trio.testing
from fakeactions import FakeActions

from trionode.config.tree import ExplorerSettings, InstallerSettings
from trionode.containers.monitors.hosted import Hosted
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


async def looked(places: OnePlace, actions: FakeActions, *heights: int) -> SurplusWatch:
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
    return watch


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


@pytest.mark.trio
async def test_the_plan_is_what_the_next_look_does() -> None:
    actions, places = FakeActions(), OnePlace()
    watch = await looked(places, actions, DUE - 1)
    (step,) = watch.plan()
    assert (step.kind, step.app, step.height) == ("remove", "web", DUE)
    places.synced = False
    assert watch.plan() == ()
    places.synced, places.own_address = True, None
    assert watch.plan() == ()
    places.own_address = OWN
    assert actions.removed == []
    watch = await looked(places, actions, DUE)
    assert (actions.removed[0].app, actions.removed[0].reason) == (step.app, step.reason)
    assert watch.plan()[0].height == DUE + 44
    assert (await looked(OnePlace(wanted=2), FakeActions(), DUE - 1)).plan() == ()


@pytest.mark.trio
async def test_a_node_listed_in_two_forms_counts_once_with_its_older_start() -> None:
    """We took over from a version that announced the port too: its row of ours stays for two hours."""
    bare = OWN.removesuffix(":16127")
    listed = [(OWN, 1_000), (bare, 9_000), ("198.51.100.2", 2_000)]
    rows = [SimpleNamespace(ip=ip, running_since_ms=since_ms) for ip, since_ms in listed]
    hosted = Hosted(
        installed=None,  # type: ignore[arg-type]
        specs=None,  # type: ignore[arg-type]
        current=None,  # type: ignore[arg-type]
        locations=SimpleNamespace(locations=lambda app: rows),
        node=None,  # type: ignore[arg-type]
        logins=None,  # type: ignore[arg-type]
        is_complete=lambda: True,
    )
    places = OnePlace(wanted=2)
    places.running = lambda app: tuple(hosted.running(app))  # type: ignore[method-assign]
    actions = FakeActions()
    await looked(places, actions, DUE)
    assert actions.removed == []
    assert [(place.address, place.since_ms) for place in hosted.running("web")] == [
        (OWN, 1_000),
        ("198.51.100.2", 2_000),
    ]
