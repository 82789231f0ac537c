"""Stories about apps that stay: elections, links, backups, pruning, power cuts (lifecycle.md §4, §9-§17)."""

from __future__ import annotations

from trionode.lifecycle.boot import BootAction
from trionode.runtime.bus import Event
from trionode.sim.appspecs import AppPlan, PartPlan
from trionode.sim.machines import Hardware
from trionode.sim.node import SimNode
from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.hosting import Stage, box_of, containers_of, world_plan
from trionode.sim.scenarios.watching import Journal, check
from trionode.sim.world import World

HOUR_S, MINUTE_S = 3600.0, 60.0
MANAGERS = "fdm-"
CHOSEN = AppPlan(name="chosen", parts=(PartPlan(name="db", data="g:/data"),))
VAULT = AppPlan(name="vault", sealed=True, parts=(PartPlan(name="db", data="g:/data"),))


class OnePrimary:
    """At no moment two nodes run an elected container."""

    def __init__(self, stage: Stage, plan: AppPlan) -> None:
        self._stage = stage
        self._container = plan.containers[0]
        stage.fleet.serve_where_running({plan.name: self._container})
        stage.world.on_event.append(self._look)

    @property
    def nodes(self) -> list[SimNode]:
        ips = self._stage.fleet.running(self._container)
        return [node for node in self._stage.world.nodes if node.ip in ips]

    def _look(self, node: SimNode, event: Event) -> None:
        if event.name == "container:changed" and len(self.nodes) > 1:
            self._stage.world.violate(node.name, f"{self._container} runs on {len(self.nodes)} nodes")

    async def elected(self, within_s: float = HOUR_S) -> SimNode:
        await self._stage.world.until(lambda: len(self.nodes) == 1, within_s, "one node is primary")
        return self.nodes[0]


async def election(world: World) -> None:
    """One node runs a `g:` app; who does not hear of a primary does not take the place of one."""
    stage = Stage(world)
    primary = OnePrimary(stage, CHOSEN)
    await stage.ready()
    await stage.register(CHOSEN)
    first = await primary.elected(4 * HOUR_S)
    await world.sleep(2 * HOUR_S)
    hosts = [node for node in world.nodes if CHOSEN.name in await stage.installed_on(node)]
    check(len(hosts) == CHOSEN.instances, f"{len(hosts)} nodes have the app")
    check(primary.nodes == [first], "the primary changed without need")
    # nobody can be asked: neither does the primary stop, nor does anybody follow one that ended
    stage.internet.silent.add(MANAGERS)
    await world.sleep(HOUR_S)
    check(primary.nodes == [first], "the primary changed while nobody could be asked")
    box_of(first).engine.crash(CHOSEN.containers[0])
    await world.sleep(HOUR_S)
    check(not primary.nodes, "a node became primary although nobody could be asked")
    stage.internet.silent.clear()
    second = await primary.elected()
    # the primary's machine goes, another follows; back again, it stays in the second row
    await world.power_cut(second)
    third = await primary.elected()
    check(third is not second, "a machine without power is primary")
    await world.start(second)
    await world.sleep(HOUR_S)
    check(primary.nodes == [third], "who came back took over")
    await stage.demand_tidy()


async def linking(world: World) -> None:
    """An app goes only where the app is that it shares a network with, and reaches it whatever happens."""
    stage = Stage(world)
    await stage.ready()
    store = AppPlan(name="store", instances=5, parts=(PartPlan(name="db"),))
    shop = AppPlan(name="shop", description="a shop networkWith:[store]")
    await stage.register(shop)
    await world.sleep(2 * HOUR_S)
    check(not stage.hosts(shop), "a linked app was installed without the other one")
    await stage.register(store)
    await stage.hosted(store)
    await stage.begin_anew()
    hosts = await stage.hosted(shop, 16 * HOUR_S)
    check(len(hosts) == shop.instances, f"{len(hosts)} nodes run the linked app")
    web, db = shop.containers[0], store.containers[0]
    for node in hosts:
        check(box_of(node).engine.reaches(web, db), f"{node.name}: {web} does not reach {db}")
    cut, again, vanished = hosts
    await world.power_cut(cut)
    await world.start(cut)
    await containers_of(again).actions.redeploy(store.name, hard=False, reason="for a test")
    box_of(vanished).engine.vanish(web)
    await world.sleep(5 * MINUTE_S)
    for node in hosts:
        check(box_of(node).engine.reaches(web, db), f"{node.name}: {web} does not reach {db} any more")
    await stage.demand_tidy()


async def backups(world: World) -> None:
    """While a backup has a component nobody starts, makes or updates it; afterwards it is up again.

    A hold of the operator outlives a power cut and ends by itself.
    """
    stage = Stage(world)
    await stage.ready()
    shop = AppPlan(name="shop", parts=(PartPlan(name="web"), PartPlan(name="db")))
    await stage.register(shop)
    node = (await stage.hosted(shop))[0]
    engine, containers = box_of(node).engine, containers_of(node)
    web, db = shop.containers
    with containers.operations.holding("db_shop"):
        engine.crash(db)
        engine.vanish(web)
        await world.until(lambda: web in engine.running_names, 60, "its other component is made again")
        await world.sleep(3 * HOUR_S)
        check(db not in engine.running_names, "a component in backup was started")
        outcome = await containers.actions.redeploy(shop.name, hard=False, reason="for a test")
        check(not outcome.ok, "an app in backup was redeployed")
        engine.vanish(db)
        await world.sleep(HOUR_S)
        check(db not in engine.everything()["container"], "a component in restore was made again")
    await world.until(lambda: db in engine.running_names, 60, "up again when the restore is over")

    await containers.holds.put(shop.name, node.clock.now_ms() + 3 * 3_600_000)
    await engine.stop(web, 10)
    await world.power_cut(node)
    await world.sleep(10 * MINUTE_S)
    await world.start(node)
    await world.sleep(HOUR_S)
    check(not {web, db} & set(engine.running_names), "an app in backup was started after a power cut")
    other = next(found for found in world.up() if found is not node)
    told = other.running.log.index.locations(shop.name, node.address)
    check(bool(told), "an app in backup is no longer announced")
    await world.sleep(2 * HOUR_S - 10 * MINUTE_S)
    await world.until(lambda: {web, db} <= set(engine.running_names), 120, "up again when the time is over")
    await stage.settle(60)


async def prune_guard(world: World) -> None:
    """What belongs to an installed app is never pruned: not even stopped, elected and encrypted."""
    stage = Stage(world)
    primary = OnePrimary(stage, VAULT)
    await stage.ready()
    await stage.register(VAULT)
    await primary.elected(4 * HOUR_S)
    await world.sleep(HOUR_S)
    idle = [node for node in world.nodes if VAULT.name in await stage.installed_on(node)]
    idle = [node for node in idle if node not in primary.nodes]
    check(len(idle) == VAULT.instances - 1, f"{len(idle)} nodes have the app and do not run it")
    for node in idle:
        box_of(node).disk.held[VAULT.containers[0]].used_bytes = 4711
        await world.kill(node)  # a new process has not opened the specification yet
        await world.start(node)
    images = {node.number: set(box_of(node).engine.everything()["image"]) for node in idle}
    await stage.register(AppPlan(name="other", instances=5))
    await stage.hosted(stage.plans["other"], 8 * HOUR_S)
    for node in idle:
        everything = box_of(node).engine.everything()
        check(VAULT.containers[0] in everything["container"], f"{node.name}: the container was pruned")
        check(images[node.number] <= set(everything["image"]), f"{node.name}: an image was pruned")
        check(box_of(node).disk.held[VAULT.containers[0]].used_bytes == 4711, "the volume was made anew")
    await stage.settle(60)


async def power(world: World) -> None:
    """Back within 125 minutes a machine starts its apps; later it removes them, because others took over."""
    stage, journal = Stage(world), Journal(world)
    await stage.ready()
    shop = AppPlan(name="shop")
    await stage.register(shop)
    short, long, _ = await stage.hosted(shop)
    await world.power_cut(short, long)
    await world.sleep(100 * MINUTE_S)
    await world.start(short)
    await world.until(lambda: short in stage.hosts(shop), 300, "back after 100 minutes its app runs")
    decision = short.running.boot.decision
    check(decision is not None and decision.action is BootAction.RECONCILE, f"it went by {decision}")
    await world.sleep(40 * MINUTE_S)
    mark = journal.mark()
    await world.start(long)
    await journal.next(long, "app:removed", 300, after=mark, name=shop.name)
    await stage.hosted(shop, 16 * HOUR_S)
    await world.sleep(HOUR_S)
    check(len(stage.hosts(shop)) == shop.instances, f"{len(stage.hosts(shop))} nodes run it in the end")
    await stage.demand_tidy()


KEPT = (
    Scenario(
        name="election",
        summary="one node runs a g: app; a look-up that fails is not 'no primary'",
        story=election,
        plan=world_plan(5),
    ),
    Scenario(
        name="linking",
        summary="an app reaches the one it shares a network with, whatever happens",
        story=linking,
        plan=world_plan(5),
    ),
    Scenario(
        name="backups",
        summary="components in backup or restore are let alone",
        story=backups,
        plan=world_plan(5),
    ),
    Scenario(
        name="prune-guard",
        summary="nothing of an installed app is pruned, not even of a stopped, encrypted g: app",
        story=prune_guard,
        plan=world_plan(5, Hardware(secure=True)),
    ),
    Scenario(
        name="power-cuts",
        summary="power cuts within and past 125 minutes",
        story=power,
        plan=world_plan(5),
    ),
)
