"""Apps get only so much of the disk a node was measured with (docs/spec/lifecycle.md §12 "Volume")."""

from __future__ import annotations

import msgspec
import pytest
import trio
from appworld import AppWorld, Life, settled, shop

from trionode.lifecycle.limits import Machine

pytestmark = pytest.mark.trio

JUST_TOO_SMALL_GB, JUST_ENOUGH_GB = 143, 144
"""0.95 of it less 80 have to hold `base` (5 + 12) and of the shop three times 5 + 12, less 12."""


async def measured(ssd_gb: float) -> tuple[AppWorld, Life]:
    world = AppWorld()
    life = await settled(world)
    machine = Machine(16, 64_000, ssd_gb)
    world.node.facts_now = msgspec.structs.replace(world.node.facts_now, machine=machine)
    return world, life


async def test_volumes_and_what_comes_with_them_have_to_fit(autojump_clock: trio.abc.Clock) -> None:
    world, life = await measured(JUST_TOO_SMALL_GB)
    before = await world.everything()
    outcome = await life.actions.install(shop(), reason="the test")
    assert outcome.step == "volume web_shop"
    assert outcome.problem == "A volume of 5 GB is wanted, 4.85 GB are left for apps on this node."
    assert await world.everything() == before

    _, life = await measured(JUST_ENOUGH_GB)
    assert (await life.actions.install(shop(), reason="the test")).ok


async def test_what_is_made_again_is_not_counted_twice(autojump_clock: trio.abc.Clock) -> None:
    world, life = await measured(JUST_ENOUGH_GB)
    assert (await life.actions.install(shop(), reason="the test")).ok
    world.specs.known["shop"] = shop()
    assert (await life.actions.redeploy("shop", reason="the test", hard=True)).ok
    assert (await life.actions.redeploy_component("web_shop", reason="the test", hard=True)).ok


@pytest.mark.parametrize(("ssd_gb", "fits"), [(0, True), (JUST_TOO_SMALL_GB - 40, False)])
async def test_a_test_counts_as_well_and_an_unknown_disk_does_not(
    autojump_clock: trio.abc.Clock, ssd_gb: float, *, fits: bool
) -> None:
    _, life = await measured(ssd_gb)
    assert (await life.actions.install(shop(), reason="the test", test=True)).ok is fits
