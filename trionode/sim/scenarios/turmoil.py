"""A day of troubles on many machines: kills, power cuts, engines, disks and registries that fail.

In the end every app is where it should be, the network lists exactly the places where its containers are, and
no machine holds anything more (docs/spec/lifecycle.md §4, §9-§17). What happens follows from the seed alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import trio

from trionode.containers.images.registry import ImageFault
from trionode.sim.appspecs import AppPlan, PartPlan
from trionode.sim.machines import Hardware
from trionode.sim.node import SimNode
from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.crowd import SETTINGS
from trionode.sim.scenarios.hosting import CUMULUS, Stage, box_of
from trionode.sim.scenarios.watching import check
from trionode.sim.world import World, WorldPlan

HOUR_S = 3600.0
MINUTE_S = 60.0
FAULTS_PER_NODE_HOUR = 0.5
CALM_HOURS = 20
SECURE = Hardware(secure=True)
ENGINE_CALLS = (
    "create",
    "start",
    "stop",
    "remove",
    "pull",
    "create_network",
    "remove_network",
    "connect",
    "inspect",
)
DISK_STEPS = ("allocate", "format", "mount", "remember", "unmount", "delete")
AWAY_S = (20.0, 3 * MINUTE_S, 20 * MINUTE_S, 3 * HOUR_S)
"""How long machines are off: within and past every window of the network."""


class Turmoil:
    """Troubles in one world. A node that is down or being troubled is left alone by the others."""

    def __init__(self, stage: Stage, nursery: trio.Nursery) -> None:
        self.stage = stage
        self.world = stage.world
        self._rng = stage.world.rng
        self._nursery = nursery
        self._troubled: set[int] = set()
        self.count = 0
        self._kinds: tuple[tuple[Callable[[SimNode], Awaitable[None]], int], ...] = (
            (self._kill, 5),
            (self._power_cut, 4),
            (self._sigterm, 2),
            (self._engine_restarts, 3),
            (self._engine_away, 3),
            (self._engine_refuses, 5),
            (self._disk_full, 3),
            (self._disk_fails, 4),
            (self._firewall_fails, 2),
            (self._registries_fail, 2),
            (self._containers_end, 5),
            (self._daemon_fails, 1),
            (self._unconfirmed, 1),
            (self._managers_silent, 2),
        )

    async def rage(self, seconds: float) -> None:
        """Trouble after trouble for so long."""
        world, rng = self.world, self._rng
        end_s = world.now_s + seconds
        mean_s = HOUR_S / (FAULTS_PER_NODE_HOUR * len(world.nodes))
        while world.now_s < end_s:
            await world.sleep(rng.expovariate(1 / mean_s))
            free = [node for node in world.nodes if node.number not in self._troubled]
            if free:
                kinds, weights = zip(*self._kinds, strict=True)
                self._nursery.start_soon(self._trouble, rng.choices(kinds, weights)[0], rng.choice(free))

    async def _trouble(self, kind: Callable[[SimNode], Awaitable[None]], node: SimNode) -> None:
        self._troubled.add(node.number)
        self.count += 1
        self.world.note(f"{kind.__name__} {node.name}")
        await kind(node)
        self._troubled.discard(node.number)

    # --- kinds ------------------------------------------------------------------------------------

    async def _kill(self, node: SimNode) -> None:
        await self.world.kill(node)
        await self._come_back(node, self._rng.choice((5.0, 60.0, 600.0)))

    async def _power_cut(self, node: SimNode) -> None:
        await self.world.power_cut(node)
        await self._come_back(node, self._rng.choice(AWAY_S))

    async def _sigterm(self, node: SimNode) -> None:
        await self.world.sigterm(node)
        await self._come_back(node, self._rng.choice(AWAY_S))

    async def _come_back(self, node: SimNode, after_s: float) -> None:
        await self.world.sleep(after_s)
        await self.world.start(node)

    async def _engine_restarts(self, node: SimNode) -> None:
        box_of(node).engine.restart_engine(live=self._rng.random() < 0.5)

    async def _engine_away(self, node: SimNode) -> None:
        engine = box_of(node).engine
        engine.unreachable = True
        await self.world.sleep(self._rng.choice((5.0, 2 * MINUTE_S, 30 * MINUTE_S)))
        engine.unreachable = False

    async def _engine_refuses(self, node: SimNode) -> None:
        after = self._rng.random() < 0.3
        operation = self._rng.choice([*ENGINE_CALLS])
        box_of(node).engine.fail_next(operation, times=self._rng.choice((1, 1, 2)), after=after)

    async def _disk_full(self, node: SimNode) -> None:
        box = box_of(node)
        free_gb, box.disk.free_gb, box.engine.disk_full = box.disk.free_gb, 0, True
        await self.world.sleep(self._rng.choice((10 * MINUTE_S, HOUR_S)))
        box.disk.free_gb, box.engine.disk_full = free_gb, False

    async def _disk_fails(self, node: SimNode) -> None:
        box_of(node).disk.failing[self._rng.choice(DISK_STEPS)] = 1

    async def _firewall_fails(self, node: SimNode) -> None:
        box_of(node).firewall.failing[self._rng.choice(("allow", "forget"))] = 1

    async def _registries_fail(self, node: SimNode) -> None:
        fault = self._rng.choice((ImageFault.UNREACHABLE, ImageFault.UNAUTHORIZED))
        self.stage.internet.registries_fail(fault)
        await self.world.sleep(20 * MINUTE_S)
        self.stage.internet.registries_fail(None)

    async def _containers_end(self, node: SimNode) -> None:
        engine = box_of(node).engine
        for name in engine.running_names:
            if name in engine.running_names and self._rng.random() < 0.5:
                self._rng.choice((engine.crash, engine.vanish))(name)

    async def _daemon_fails(self, node: SimNode) -> None:
        self.world.chain.fail(node.address)
        await self.world.sleep(self._rng.choice((5 * MINUTE_S, 3 * HOUR_S)))
        self.world.chain.recover(node.address)

    async def _unconfirmed(self, node: SimNode) -> None:
        self.world.chain.unconfirm(node.address)
        await self.world.sleep(20 * MINUTE_S)
        self.world.chain.confirm(node.address)

    async def _managers_silent(self, node: SimNode) -> None:
        self.stage.internet.silent.add("fdm-")
        await self.world.sleep(15 * MINUTE_S)
        self.stage.internet.silent.discard("fdm-")


def apps_for(nodes: int) -> list[AppPlan]:
    """A bit of everything: about one app for every two nodes."""
    kinds = (
        AppPlan(name="plain"),
        AppPlan(name="parts", parts=(PartPlan(name="web"), PartPlan(name="db"), PartPlan(name="cache"))),
        AppPlan(name="chosen", parts=(PartPlan(name="web", data="g:/data"),)),
        AppPlan(name="vault", sealed=True),
        AppPlan(name="four", instances=4),
    )
    return [
        msgspec.structs.replace(kind, name=f"{kind.name}{number}")
        for number, kind in ((number, kinds[number % len(kinds)]) for number in range(max(5, nodes // 2)))
    ]


def is_elected(plan: AppPlan) -> bool:
    return any(part.data.startswith("g:") for part in plan.parts)


async def differences(stage: Stage) -> list[str]:
    """Sentences about what is not as it should be, in a network at rest."""
    found: list[str] = []
    places: set[tuple[str, str]] = set()
    for plan in stage.plans.values():
        installed = [node for node in stage.world.nodes if plan.name in await stage.installed_on(node)]
        places |= {(plan.name, node.address) for node in installed}
        if len(installed) != plan.instances:
            found.append(f"{plan.name} is on {len(installed)} nodes, {plan.instances} are wanted")
        running = stage.hosts(plan)
        if len(running) != (1 if is_elected(plan) else plan.instances):
            found.append(f"{plan.name} runs on {len(running)} nodes")
    for node in stage.world.nodes:
        listed = set(stage.world.locations(node))
        found += [f"{node.name} lists {name} at {ip}" for name, ip in sorted(listed - places)]
        found += [f"{node.name} does not list {name} at {ip}" for name, ip in sorted(places - listed)]
        found += await stage.untidy(node)
    return found


async def story(world: World, hours: float) -> None:
    stage = Stage(world)
    plans = apps_for(len(world.nodes))
    stage.fleet.outfit(world.chain, world.nodes[: len(world.nodes) // 2], SECURE)
    stage.fleet.serve_where_running({plan.name: plan.containers[0] for plan in plans if is_elected(plan)})
    await stage.ready()
    await stage.register(*plans)
    await world.sleep(40 * MINUTE_S)
    async with trio.open_nursery() as nursery:
        turmoil = Turmoil(stage, nursery)
        await turmoil.rage(hours * HOUR_S)
    world.note(f"{turmoil.count} troubles are over")
    for node in world.nodes:
        box = box_of(node)
        box.engine.planned.clear()
        box.disk.failing.clear()
        box.firewall.failing.clear()
        # what a node has given up on it tries again in a new life
        await world.kill(node)
        await world.start(node)
    left: list[str] = []
    for _ in range(CALM_HOURS * 6):
        await world.sleep(HOUR_S / 6)
        left = await differences(stage)
        if not left:
            break
    check(not left, f"{CALM_HOURS} h after the last trouble: {'; '.join(left[:6])} ({len(left)} in all)")
    await world.sleep(HOUR_S / 2)
    left = await differences(stage)
    check(not left, f"half an hour later: {'; '.join(left[:6])} ({len(left)} in all)")


async def day(world: World) -> None:
    await story(world, 24)


async def some_hours(world: World) -> None:
    await story(world, 2)


DAYS = (
    Scenario(
        name="container-day",
        summary="a day of failing machines, engines, disks and registries; every app ends where it should",
        story=day,
        plan=WorldPlan(
            nodes=20, hardware=CUMULUS, settings=SETTINGS, block_interval_s=30, tick_ms=5, checks=False
        ),
        min_nodes=6,
    ),
    Scenario(
        name="turmoil",
        summary="two hours of the same on six nodes",
        story=some_hours,
        plan=WorldPlan(
            nodes=6, hardware=CUMULUS, settings=SETTINGS, block_interval_s=30, tick_ms=5, checks=False
        ),
        min_nodes=6,
    ),
)
