"""Installed apps follow their specification, not all nodes at once."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from trionode.config.tree import ExplorerSettings, InstallerSettings
from trionode.containers.actions import Outcome, Spec
from trionode.containers.monitors.surplus import BLOCK
from trionode.containers.monitors.updates import SpecUpdates
from trionode.plans.redeploy import Depth, UpdatePlan
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters

OLD = {"name": "web", "version": 3, "hash": "aa", "hdd": 5, "repotag": "a:1", "description": "x"}


class Specs:
    synced = True
    closed = False

    def __init__(self, opened: bool = True, **changes: Any) -> None:
        self.current = OLD | {"hash": "bb"} | changes
        self.opened = opened

    def obsolete(self) -> list[str]:
        return ["web"]

    async def installed_spec(self, app: str) -> Spec | None:
        return OLD

    async def current_spec(self, app: str) -> tuple[Spec, bool] | None:
        return self.current, self.opened

    def both_now(self, app: str) -> tuple[Spec, Spec, bool] | None:
        return None if self.closed else (OLD, self.current, self.opened)


class Updates:
    def __init__(self) -> None:
        self.plans: list[UpdatePlan] = []

    async def update(self, spec: Mapping[str, Any], plan: UpdatePlan, *, reason: str) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.plans.append(plan)
        return Outcome(True)


def service_of(specs: Specs, updates: Updates, bus: EventBus, one_in: int = 1) -> SpecUpdates:
    return SpecUpdates(
        ExplorerSettings(),
        InstallerSettings(redeploy_one_in=one_in),
        specs=specs,
        updater=updates,
        bus=bus,
        counters=Counters(),
        rng=random.Random(7),
    )


async def after_blocks(specs: Specs, blocks: int, *, one_in: int = 1) -> list[UpdatePlan]:
    bus, updates = EventBus(), Updates()
    service = service_of(specs, updates, bus, one_in)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        for height in range(blocks):
            bus.publish(BLOCK, {"height": height})
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return updates.plans


@pytest.mark.trio
async def test_the_depth_is_that_of_the_change() -> None:
    assert [plan.depth for plan in await after_blocks(Specs(repotag="a:2"), 1)] == [Depth.SOFT]
    assert [plan.depth for plan in await after_blocks(Specs(hdd=6), 1)] == [Depth.HARD]
    (row,) = await after_blocks(Specs(description="networkWith=[shop]"), 1)
    assert (row.depth, row.links_changed) == (Depth.ROW, True)


@pytest.mark.trio
async def test_what_cannot_be_opened_leaves() -> None:
    specs = Specs(opened=False, version=8, enterprise="secret", compose=[])
    assert [plan.depth for plan in await after_blocks(specs, 1)] == [Depth.LEAVE]


@pytest.mark.trio
async def test_nodes_spread_over_the_blocks() -> None:
    every = len(await after_blocks(Specs(repotag="a:2"), 400))
    assert 400 // 9 <= every <= 400 // 4
    some = len(await after_blocks(Specs(repotag="a:2"), 400, one_in=4))
    assert 0 < some < every // 2


@pytest.mark.trio
async def test_nothing_is_touched_before_the_registry_is_complete() -> None:
    specs = Specs(repotag="a:2")
    specs.synced = False
    assert await after_blocks(specs, 3) == []
    specs.synced = True
    assert len(await after_blocks(specs, 3)) == 1


def planned(specs: Specs, one_in: int = 1) -> list[tuple[str, str, str, str]]:
    steps = service_of(specs, Updates(), EventBus(), one_in).plan()
    return [(step.kind, step.app, step.component, step.reason) for step in steps]


def test_the_plan_says_how_deep_an_update_goes() -> None:
    why = "its specification changed: its volume keeps its size"
    assert planned(Specs(repotag="a:2")) == [("redeploy_soft", "web", "", why)]
    assert planned(Specs(repotag="a:2"), one_in=2) == [
        ("redeploy_soft", "web", "", f"{why}; each look does it with a chance of 1 in 2")
    ]
    assert [step[0] for step in planned(Specs(hdd=6))] == ["redeploy_hard"]
    assert [step[0] for step in planned(Specs(description="y"))] == ["update_row"]
    assert planned(Specs(hash="aa", repotag="a:2")) == []
    leaving = Specs(opened=False, version=8, enterprise="secret", compose=[])
    assert [step[0] for step in planned(leaving)] == ["remove"]
    leaving.closed = True
    assert [step[0] for step in planned(leaving)] == ["update"]
    leaving.synced = False
    assert planned(leaving) == []


def test_the_plan_names_the_components_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    web, db = {"name": "web", "hdd": 1, "repotag": "w:1"}, {"name": "db", "hdd": 1}
    old = {"name": "shop", "version": 8, "hash": "aa", "compose": [web, db]}
    monkeypatch.setattr(f"{__name__}.OLD", old)
    specs = Specs(compose=[{**web, "repotag": "w:2"}, {**db, "hdd": 2}])
    assert [step[::2] for step in planned(specs)] == [
        ("redeploy_soft", "web_shop"),
        ("redeploy_hard", "db_shop"),
    ]


@pytest.mark.trio
async def test_the_plan_names_the_block_of_the_next_look() -> None:
    bus, updates, specs = EventBus(), Updates(), Specs(repotag="a:2")
    service = service_of(specs, updates, bus)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        assert service.plan()[0].height is None, "the next block, whichever it is"
        bus.publish(BLOCK, {"height": 100})
        await trio.testing.wait_all_tasks_blocked()
        due = service.plan()[0].height
        assert due is not None
        assert len(updates.plans) == 1
        for height in (due - 1, due):
            assert len(updates.plans) == 1
            bus.publish(BLOCK, {"height": height})
            await trio.testing.wait_all_tasks_blocked()
        assert len(updates.plans) == 2
        nursery.cancel_scope.cancel()
