"""Acceptance suites 15, 20, 23, 24 on simulated machines with the times of the real network.

Boot, new images, what happens to containers, and what becomes of apps when a node loses its standing. Facts:
docs/spec/testnet.md §8, docs/spec/lifecycle.md §4, §9, §10, §13, §16.
"""

from __future__ import annotations

from trionode.lifecycle.boot import BootAction, BootDecision
from trionode.sim.appspecs import IMAGE, AppPlan, PartPlan
from trionode.sim.machines import Hardware
from trionode.sim.node import SimNode
from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.hosting import BLOCK_S, Stage, box_of, world_plan
from trionode.sim.scenarios.watching import Journal, check
from trionode.sim.world import World

HOUR_S = 3600.0
SETTLED, UPDATED = "boot:settled", "imageUpdate:redeployComplete"
POLL_S = 40.0
SECURE = Hardware(secure=True)
SHOP = AppPlan(name="shop", parts=(PartPlan(name="web"), PartPlan(name="db", data="/data")))


async def boot(world: World) -> None:
    """15: what becomes of containers at a start, case by case."""
    stage, journal = Stage(world), Journal(world)
    await stage.ready()
    await stage.register(SHOP)
    node, away, lost = await stage.hosted(SHOP)
    # only the process starts again: containers are not touched
    since = await _since(node)
    await world.kill(node)
    decision = await _boots(world, journal, node, 20)
    check(decision.action is BootAction.NOTHING, f"a restart of the process went by rule {decision.rule}")
    check(await _since(node) == since, "a restart of the process touched containers")
    # an orderly shutdown, back within seven minutes; and one that lasts longer
    await world.sigterm(node)
    await world.sigterm(away)
    check(not box_of(node).running(), "containers run on a machine that is off")
    await world.sleep(300)
    decision = await _boots(world, journal, node, 300)
    check(decision.action is BootAction.RECONCILE, f"away for 300 s: rule {decision.rule}")
    check(set(SHOP.containers) <= set(box_of(node).running()), "away for 300 s: containers do not run")
    check(await _since(node) != since, "containers were not started anew")
    await world.sleep(200)
    decision = await _boots(world, journal, away, 300)
    check(decision.rule == 2, f"away for 500 s: rule {decision.rule}")
    check(not await stage.installed_on(away), "away for 500 s: the app stayed")
    # a power cut with a silent daemon afterwards; then one without a confirmation
    for how in (world.chain.fail, world.chain.unconfirm):
        await stage.begin_anew()
        await stage.hosted(SHOP, 16 * HOUR_S)
        victim = lost if SHOP.name in await stage.installed_on(lost) else stage.hosts(SHOP)[0]
        await world.power_cut(victim)
        how(victim.address)
        decision = await _boots(world, journal, victim, world.plan.settings.system.boot_daemon_timeout_s + 90)
        check(decision.rule in (3, 4), f"{how.__name__}: rule {decision.rule}")
        check(not await stage.installed_on(victim), f"{how.__name__}: the app stayed")
        world.chain.recover(victim.address)
        world.chain.confirm(victim.address)
    # nothing is known of the time before: the registry must be whole first
    await stage.begin_anew()
    await stage.hosted(SHOP, 16 * HOUR_S)
    victim = stage.hosts(SHOP)[0]
    await world.power_cut(victim)
    victim.lose_disk()
    decision = await _boots(world, journal, victim, world.plan.settings.system.boot_sync_timeout_s + 60)
    check(decision.rule in (6, 7), f"a first boot went by rule {decision.rule}")
    await stage.settle(60)


async def _boots(world: World, journal: Journal, node: SimNode, within_s: float) -> BootDecision:
    mark = journal.mark()
    await world.start(node)
    await journal.next(node, SETTLED, within_s, after=mark)
    decision = node.running.boot.decision
    check(decision is not None, "settled without a decision")
    assert decision is not None
    return decision


async def _since(node: SimNode) -> dict[str, int | None]:
    """When each container was started."""
    engine = box_of(node).engine
    return {row.name: (await engine.inspect(row.name)).started_ms for row in await engine.containers()}


async def image_update(world: World, plan: AppPlan) -> None:
    """20: a new image under the same name is noticed by its digest and put in place, the row untouched."""
    stage, journal = Stage(world), Journal(world)
    await stage.ready()
    await stage.register(plan)
    hosts = await stage.hosted(plan)
    before = {node.number: await _row(node) for node in hosts}
    digest, mark = stage.internet.push(IMAGE), journal.mark()
    for node in hosts:
        await journal.next(node, UPDATED, 6.5 * HOUR_S, after=mark, appName=plan.name)
    await world.sleep(8 * BLOCK_S)
    for node in hosts:
        check(await _row(node) == before[node.number], f"{node.name}: the row of the app changed")
        check(not journal.found(node, "app:removed", mark), f"{node.name} told that the app was removed")
        check(plan.name in await stage.installed_on(node), f"{node.name} has lost the app")
        for container in plan.containers:
            details = await box_of(node).engine.inspect(container)
            image = await box_of(node).engine.image(details.image_id)
            check(any(one.endswith(digest) for one in image.digests), f"{node.name} runs the old image")
    check(stage.hosts(plan) == hosts, "the app does not run on the same nodes")
    mark = journal.mark()
    await stage.settle(HOUR_S)
    check(not any(journal.found(node, UPDATED, mark) for node in hosts), "redeployed without a new image")


async def _row(node: SimNode) -> tuple[int, str]:
    """Height and text of its only row."""
    (row,) = await box_of(node).local.rows()
    check(row.height > 0, "the row has no height")
    return row.height, row.spec_text


async def image_update_plain(world: World) -> None:
    await image_update(world, AppPlan(name="shop"))


async def image_update_sealed(world: World) -> None:
    plan = AppPlan(name="vault", sealed=True)
    await image_update(world, plan)
    for node in (node for node in world.nodes if plan.containers[0] in box_of(node).running()):
        (row,) = await box_of(node).local.rows()
        spec = row.spec()
        check(bool(spec["enterprise"]) and spec["compose"] == [], f"{node.name} keeps the app in clear")


async def lifecycle(world: World) -> None:
    """23: a reboot, a removal by hand, a stop by hand, a crash: the container is up again."""
    stage, journal = Stage(world), Journal(world)
    await stage.ready()
    await stage.register(SHOP)
    node = (await stage.hosted(SHOP))[0]
    engine = box_of(node).engine
    container = SHOP.containers[0]
    check(container == "fluxweb_shop", f"the container is named {container}")
    mark = journal.mark()
    await world.power_cut(node)
    await _boots(world, journal, node, 120)
    await world.until(lambda: container in engine.running_names, 60, "up again after a reboot")
    await journal.next(node, "app:running", HOUR_S, after=mark)
    engine.vanish(container)
    await world.until(lambda: container in engine.running_names, 90, "up again after a removal by hand")
    await engine.stop(container, 1)
    # somebody may be at work there: the second of the hourly looks starts it
    looks_s = 2 * world.plan.settings.appstate.announce_interval_s
    await world.until(
        lambda: container in engine.running_names, looks_s + 60, "up again after a stop by hand"
    )
    engine.crash(container)
    await world.until(lambda: container in engine.running_names, 120, "up again after a crash")
    await stage.settle(600)
    check(node in stage.hosts(SHOP), "the app does not run in the end")


async def removal(world: World) -> None:
    """24: who loses its confirmation, or whose daemon is silent for 125 minutes, lets its apps go."""
    stage = Stage(world)
    await stage.ready()
    await stage.register(SHOP)
    expired, silent, _ = await stage.hosted(SHOP)
    monitors, chain = world.plan.settings.monitors, world.plan.settings.chain
    spacing_s = monitors.node_removal_spacing_s
    world.chain.unconfirm(expired.address)
    world.chain.fail(silent.address)
    began_s = world.now_s
    await world.until(lambda: not box_of(expired).running(), POLL_S + spacing_s, "the expired node lets go")
    await world.sleep(30)
    await stage.demand_tidy(expired)
    check(not await stage.installed_on(expired), "the expired node keeps its row")
    await world.sleep(began_s + chain.confirmation_stale_s - 60 - world.now_s)
    check(silent in stage.hosts(SHOP), "a silent daemon cost the app before its time")
    within_s = monitors.node_interval_s + spacing_s + 120
    await world.until(lambda: not box_of(silent).running(), within_s, "the node with a silent daemon lets go")
    world.chain.recover(silent.address)
    world.chain.confirm(expired.address)
    await stage.begin_anew()
    await stage.hosted(SHOP, 16 * HOUR_S)
    await stage.settle(60)


SUITES = (
    Scenario(
        name="suite-15-containers",
        summary="containers after a restart, a reboot, a power cut, a silent daemon, a lost disk",
        story=boot,
        plan=world_plan(5),
        min_nodes=5,
    ),
    Scenario(
        name="suite-20",
        summary="a new image under the same name is put in place",
        story=image_update_plain,
        plan=world_plan(5),
    ),
    Scenario(
        name="suite-20-sealed",
        summary="the same for an encrypted specification, which stays encrypted",
        story=image_update_sealed,
        plan=world_plan(5, SECURE),
    ),
    Scenario(
        name="suite-23",
        summary="containers that were ended by whomever are up again",
        story=lifecycle,
        plan=world_plan(5),
    ),
    Scenario(
        name="suite-24-containers",
        summary="a node that loses its standing removes its apps without a trace",
        story=removal,
        plan=world_plan(5),
    ),
)
