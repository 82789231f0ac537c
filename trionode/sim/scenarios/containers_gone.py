"""Apps that change or go: surplus, expiry, new specifications, removals (lifecycle.md §10, §15, §16)."""

from __future__ import annotations

import msgspec

from trionode.sim.appspecs import AppPlan, PartPlan
from trionode.sim.node import SimNode
from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.hosting import Stage, box_of, containers_of, world_plan
from trionode.sim.scenarios.watching import check
from trionode.sim.world import World

HOUR_S = 3600.0
MARK_BYTES = 4711
SHORT_BLOCKS = 20_000
"""The shortest life of an app that may be bought now."""


async def updates(world: World) -> None:
    """A new specification reaches every host: only the row, containers, or volumes as well."""
    stage = Stage(world)
    await stage.ready()
    plan = AppPlan(name="shop", parts=(PartPlan(name="web"), PartPlan(name="db")))
    await stage.register(plan)
    hosts = await stage.hosted(plan)
    web, db = plan.parts
    for node in hosts:
        box_of(node).disk.held[plan.containers[1]].used_bytes = MARK_BYTES
    before = {node.number: await _ids(node) for node in hosts}

    row_only = msgspec.structs.replace(plan, description="another word for it")
    await _everywhere(stage, row_only, hosts)
    for node in hosts:
        check(await _ids(node) == before[node.number], f"{node.name}: containers made anew for a description")

    soft = msgspec.structs.replace(
        row_only, parts=(web, msgspec.structs.replace(db, environment=("COLOUR=blue",)))
    )
    await _everywhere(stage, soft, hosts)
    for node in hosts:
        ids, old = await _ids(node), before[node.number]
        check(ids[plan.containers[0]] == old[plan.containers[0]], f"{node.name}: the other component as well")
        check(ids[plan.containers[1]] != old[plan.containers[1]], f"{node.name}: the old container runs")
        volume = box_of(node).disk.held[plan.containers[1]]
        check(volume.used_bytes == MARK_BYTES, f"{node.name}: the volume was lost")

    hard = msgspec.structs.replace(row_only, parts=(web, msgspec.structs.replace(db, hdd_gb=2)))
    await _everywhere(stage, hard, hosts)
    for node in hosts:
        volume = box_of(node).disk.held[plan.containers[1]]
        check(volume.used_bytes == 0 and volume.size_bytes > 2 * 10**9, f"{node.name}: the old volume stayed")
    await stage.settle(HOUR_S)
    check(stage.hosts(plan) == hosts, "the app has moved")


async def _everywhere(stage: Stage, plan: AppPlan, hosts: list[SimNode]) -> None:
    """Wait until the tables of all hosts have this specification, and its containers run."""
    (message,) = await stage.update(plan)
    for _ in range(12 * 12):
        await stage.world.sleep(300)
        rows = [await box_of(node).local.rows() for node in hosts]
        current = all(row.hash == message.hash for (row,) in rows)
        if current and stage.hosts(plan) == hosts:
            return
    check(False, "a new specification did not reach all hosts within twelve hours")


async def _ids(node: SimNode) -> dict[str, str]:
    return {row.name: row.id for row in await box_of(node).engine.containers()}


async def surplus_and_expiry(world: World) -> None:
    """Of too many instances the latest go; when its time is over the rest goes as well."""
    stage = Stage(world)
    brief = AppPlan(name="brief", expire=SHORT_BLOCKS)
    await stage.seed(brief, before_blocks=SHORT_BLOCKS - 900)
    await stage.ready()
    await stage.hosted(brief)
    wide = AppPlan(name="wide", instances=5)
    await stage.register(wide)
    await stage.hosted(wide)
    narrow = msgspec.structs.replace(wide, instances=3)
    await stage.update(narrow)
    fewest = len(stage.hosts(wide))
    for _ in range(3 * 60):
        await world.sleep(60)
        fewest = min(fewest, len(stage.hosts(narrow)))
    check(len(stage.hosts(narrow)) == 3, f"{len(stage.hosts(narrow))} nodes run an app that wants three")
    check(fewest == 3, f"at one time only {fewest} nodes ran it")
    world.chain.mine(1000)
    await world.until(lambda: not stage.hosts(brief), 2 * HOUR_S, "an app whose time is over is removed")
    await stage.settle(HOUR_S)
    check(len(stage.hosts(narrow)) == 3, "another app went along")
    left = {name for node in world.up() for name, _ in world.locations(node)}
    check(left == {wide.name}, f"the network lists {sorted(left)}")


async def removals(world: World) -> None:
    """An operator's removal is whole and made good elsewhere; a penalty of 100 costs a node its apps."""
    stage = Stage(world)
    await stage.ready()
    shop = AppPlan(name="shop", parts=(PartPlan(name="web"), PartPlan(name="db")))
    await stage.register(shop)
    removed, punished, _ = await stage.hosted(shop)
    containers = containers_of(removed)
    outcome = await containers.actions.remove(shop.name, reason="for a test", force=False)
    check(outcome.ok, f"not removed: {outcome.problem}")
    await stage.demand_tidy(removed)
    others = [node for node in world.nodes if node is not removed]
    await world.until(
        lambda: not any((shop.name, removed.address) in world.locations(node) for node in others),
        60,
        "nobody lists the app there any more",
    )
    await stage.begin_anew()
    await stage.hosted(shop, 16 * HOUR_S)
    punished.running.dos.put("test", 100, "for a test")
    monitors = world.plan.settings.monitors
    await world.until(
        lambda: not box_of(punished).running(),
        monitors.node_interval_s + 120,
        "a penalty of 100 costs the app",
    )
    await world.sleep(60)
    check(not await stage.installed_on(punished), "the row stayed")
    await stage.demand_tidy(punished)
    punished.running.dos.put("test", 0, "")
    await stage.begin_anew()
    await stage.hosted(shop, 16 * HOUR_S)
    await stage.settle(60)


GONE = (
    Scenario(
        name="updates",
        summary="a new specification: only the row, containers, or volumes as well",
        story=updates,
        plan=world_plan(5),
    ),
    Scenario(
        name="surplus-and-expiry",
        summary="instances too many go, apps whose time is over go, others stay",
        story=surplus_and_expiry,
        plan=world_plan(5),
    ),
    Scenario(
        name="removals",
        summary="removed by the operator, and by a penalty",
        story=removals,
        plan=world_plan(5),
    ),
)
