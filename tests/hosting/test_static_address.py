"""A node that looked up where it is says with its apps whether its address is static (lifecycle.md §9)."""

from __future__ import annotations

import pytest

from trionode.sim.appspecs import AppPlan
from trionode.sim.machines import Hardware
from trionode.sim.scenario import Scenario, run_scenario
from trionode.sim.scenarios.hosting import Stage, world_plan
from trionode.sim.world import World

SHOP = AppPlan(name="shop", static_ip=True)


async def story(world: World) -> None:
    stage = Stage(world)
    await stage.ready()
    await stage.register(SHOP)
    hosts = await stage.hosted(SHOP)
    await world.sleep(120)
    rows = world.nodes[0].running.log.index.locations(name="shop")
    assert len(rows) == len(hosts)
    assert [row.static_ip for row in rows] == [True] * len(hosts)


@pytest.mark.timeout(900)
def test_hosts_at_static_addresses_say_so() -> None:
    plan = world_plan(4, Hardware(static_ip=True))
    run_scenario(Scenario(name="static-address", summary="static addresses", story=story, plan=plan), seed=3)
