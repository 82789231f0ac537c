"""Acceptance suites 09, 10, 21, 27 on simulated machines with the times of the real network: the spawner.

Facts: docs/spec/testnet.md §8, docs/spec/lifecycle.md §11.
"""

from __future__ import annotations

import msgspec

from trionode.sim.appspecs import AppPlan, PartPlan
from trionode.sim.machines import Hardware
from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.hosting import Stage, world_plan
from trionode.sim.scenarios.watching import Journal, check
from trionode.sim.world import World

HOUR_S = 3600.0
DEFERRED, FAILED, BLOCKED = "spawner:deferred", "spawner:installFailed", "spawner:blocked"
ARCANE = Hardware(secure=True, static_ip=True, datacenter=True)
LEGACY = Hardware(static_ip=True, datacenter=True)
BROKEN = "registry.sim/broken:1"


async def spawning(world: World) -> None:
    """09: an app is registered and taken by as many nodes as it wants, and by no more."""
    stage, journal = Stage(world), Journal(world)
    await stage.ready()
    shop, mark = AppPlan(name="shop"), journal.mark()
    (message,) = await stage.register(shop)
    for node in world.nodes[:2]:
        row = node.running.registry.current.get(shop.name)
        check(row is not None and row.spec()["instances"] == 3, f"{node.name} has another specification")
    hosts = await stage.hosted(shop)
    for node in hosts:
        told = journal.found(node, "app:installed", mark, name=shop.name, hash=message.hash)
        check(len(told) == 1, f"{node.name} told {len(told)} times of its install")
        check(await stage.installed_on(node) == {shop.name}, f"{node.name} has no row of the app")
    await stage.settle(3 * HOUR_S)
    check(stage.hosts(shop) == hosts, "other nodes run the app some hours later")
    others = {(name, ip) for node in world.up() for name, ip in world.locations(node)}
    check(others == {(shop.name, node.address) for node in hosts}, "the network lists other places")


async def penalties(world: World) -> None:
    """10: neither without a confirmation nor with a penalty does a node take apps; afterwards it does."""
    stage, journal = Stage(world), Journal(world)
    await stage.ready()
    punished, lost, *others = world.nodes
    mark = journal.mark()
    punished.running.dos.put("test", 100, "for a test")
    await journal.next(punished, BLOCKED, HOUR_S, after=mark, reason="dos")
    everywhere = AppPlan(name="everywhere", instances=len(world.nodes))
    await stage.register(everywhere)
    world.chain.unconfirm(lost.address)
    await journal.next(lost, "spawner:paused", 40, after=mark)
    await world.until(lambda: len(stage.hosts(everywhere)) == len(others), 6 * HOUR_S, "all others run it")
    await world.sleep(HOUR_S)
    check(punished not in stage.hosts(everywhere), f"{punished.name} took an app in spite of a penalty")
    check(lost not in stage.hosts(everywhere), f"{lost.name} took an app without a confirmation")
    punished.running.dos.put("test", 0, "")
    world.chain.confirm(lost.address)
    await stage.begin_anew()
    await stage.hosted(everywhere, 16 * HOUR_S)
    await stage.demand_tidy()


async def deferrals(world: World, cases: tuple[tuple[AppPlan, str, float], ...]) -> None:
    """21: nodes that are better than an app needs wait, each for its reason, and take it in the end."""
    stage, journal = Stage(world), Journal(world)
    await stage.ready()
    mark = journal.mark()
    began_s = world.now_s
    await stage.register(*(plan for plan, _, _ in cases))
    for plan, reason, delay_s in cases:
        wanted = {"appName": plan.name, "reason": reason, "delayMs": round(delay_s * 1000)}
        await journal.anywhere(DEFERRED, HOUR_S, after=mark, **wanted)
        check(not stage.hosts(plan), f"{plan.name} was taken at once")
    for plan, _, delay_s in cases:
        await stage.hosted(msgspec.structs.replace(plan, instances=1))
        check(world.now_s - began_s >= delay_s, f"{plan.name} was taken before its time")
    odd = {
        (entry.data["appName"], entry.data["reason"])
        for entry in journal.entries[mark:]
        if entry.name == DEFERRED
    } - {(plan.name, reason) for plan, reason, _ in cases}
    check(not odd, f"deferred for other reasons: {odd}")
    await stage.demand_tidy()


async def arcane(world: World) -> None:
    spawner = world.plan.settings.spawner
    sealed = AppPlan(name="sealed", sealed=True)
    await deferrals(
        world,
        (
            (AppPlan(name="plain"), "non_enterprise_on_arcane", spawner.defer_plain_on_arcane_s),
            (sealed, "static_ip", spawner.defer_static_ip_encrypted_s),
            (
                AppPlan(name="sealedstatic", sealed=True, static_ip=True),
                "datacenter",
                spawner.defer_datacenter_encrypted_s,
            ),
        ),
    )


async def legacy(world: World) -> None:
    spawner = world.plan.settings.spawner
    await deferrals(
        world,
        (
            (AppPlan(name="plain"), "static_ip", spawner.defer_static_ip_s),
            (AppPlan(name="static", static_ip=True), "datacenter", spawner.defer_datacenter_s),
        ),
    )


async def errors(world: World) -> None:
    """27: an image that cannot be had fails once on a node, the network hears of it, nothing is left."""
    stage, journal = Stage(world), Journal(world)
    await stage.ready()
    stage.internet.push(BROKEN, broken=True)
    broken, mark = AppPlan(name="broken", parts=(PartPlan(image=BROKEN),)), journal.mark()
    (message,) = await stage.register(broken)

    def failed() -> list[int]:
        return [entry.node for entry in journal.entries[mark:] if entry.name == FAILED]

    await world.until(lambda: bool(failed()), 2 * HOUR_S, "an install fails")
    number = failed()[0]
    entry = next(entry for entry in journal.entries[mark:] if entry.name == FAILED)
    check(entry.data == {"appName": broken.name, "hash": message.hash}, f"it told {entry.data}")
    other = world.nodes[(number + 1) % len(world.nodes)]
    await journal.next(other, "network:appinstallingerror", 50, after=mark, name=broken.name)
    await stage.settle(6 * HOUR_S)
    tries = failed()
    check(len(tries) == len(set(tries)), "a node tried again what had failed")
    check(len(tries) >= 3, f"only {len(tries)} nodes tried it")
    skips = [entry for entry in journal.entries[mark:] if entry.name == "spawner:networkErrorSkip"]
    check(all(entry.data["errorCount"] >= 5 for entry in skips), "few errors were told to be many")


SUITES = (
    Scenario(
        name="suite-09",
        summary="a registered app is taken by as many nodes as it wants, and by no more",
        story=spawning,
        plan=world_plan(10),
    ),
    Scenario(
        name="suite-10-spawner",
        summary="no apps are taken with a penalty or without a confirmation",
        story=penalties,
        plan=world_plan(5),
        min_nodes=5,
    ),
    Scenario(
        name="suite-21-arcane",
        summary="secure nodes leave to others what those can do, for the times of the table",
        story=arcane,
        plan=world_plan(10, ARCANE),
    ),
    Scenario(
        name="suite-21-legacy",
        summary="nodes in datacenters leave to others what those can do, for the times of the table",
        story=legacy,
        plan=world_plan(10, LEGACY),
    ),
    Scenario(
        name="suite-27",
        summary="an install that fails is told, is not tried again, and leaves nothing behind",
        story=errors,
        plan=world_plan(6),
    ),
)
