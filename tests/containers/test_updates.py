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

    def __init__(self, opened: bool = True, **changes: Any) -> None:
        self.current = OLD | {"hash": "bb"} | changes
        self.opened = opened

    def obsolete(self) -> list[str]:
        return ["web"]

    async def installed_spec(self, app: str) -> Spec | None:
        return OLD

    async def current_spec(self, app: str) -> tuple[Spec, bool] | None:
        return self.current, self.opened


class Updates:
    def __init__(self) -> None:
        self.plans: list[UpdatePlan] = []

    async def update(self, spec: Mapping[str, Any], plan: UpdatePlan, *, reason: str) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.plans.append(plan)
        return Outcome(True)


async def after_blocks(specs: Specs, blocks: int, *, one_in: int = 1) -> list[UpdatePlan]:
    bus, updates = EventBus(), Updates()
    service = SpecUpdates(
        ExplorerSettings(),
        InstallerSettings(redeploy_one_in=one_in),
        specs=specs,
        updater=updates,
        bus=bus,
        counters=Counters(),
        rng=random.Random(7),
    )
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
