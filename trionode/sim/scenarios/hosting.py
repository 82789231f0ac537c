"""What stories about containers share: a network that is READY, apps in its registry, and looks at machines.

Facts: docs/spec/lifecycle.md §11-§13, docs/spec/testnet.md §8.
"""

from __future__ import annotations

from collections.abc import Sequence

from trionode.config.tree import PeerSettings, Settings
from trionode.containers.composition import Containers
from trionode.registry.messages import AppMessage
from trionode.sim.appspecs import IMAGE, AppPlan, Owner
from trionode.sim.fleet import Fleet
from trionode.sim.housekeeping import untidy
from trionode.sim.machines import ContainerMachine, Hardware
from trionode.sim.node import SimNode
from trionode.sim.scenarios.registering import announce, knows, pay, seed_registry, stand
from trionode.sim.scenarios.watching import check
from trionode.sim.world import World, WorldPlan

PRODUCTION = Settings(peers=PeerSettings(threshold_reached=3, threshold_below=1, random_draws=20))
"""Times of the real network; thresholds of peers for few nodes, who need not be looked for so often."""

CUMULUS = Hardware()
BLOCK_S, FAST_BLOCK_S = 30.0, 5.0
"""Blocks come fast until the nodes are READY, which takes 250 of them in a network that is new."""


def world_plan(nodes: int, hardware: Hardware = CUMULUS, settings: Settings = PRODUCTION) -> WorldPlan:
    """A world of machines with production times."""
    return WorldPlan(nodes=nodes, hardware=hardware, settings=settings, block_interval_s=BLOCK_S)


def fleet_of(world: World) -> Fleet:
    check(world.fleet is not None, "this world has no machines")
    assert world.fleet is not None
    return world.fleet


def box_of(node: SimNode) -> ContainerMachine:
    check(node.box is not None, f"{node.name} has no machine")
    assert node.box is not None
    return node.box


def containers_of(node: SimNode) -> Containers:
    """Of the process that runs now."""
    containers = node.running.containers
    check(containers is not None, f"{node.name} has no containers")
    assert containers is not None
    return containers


PAID_SAT = 10_000 * 10**8
"""Enough for every app of a story."""


class Stage:
    """A world with an owner: `register` puts apps on the chain, `hosts` says where they run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fleet = fleet_of(world)
        self.internet = self.fleet.internet
        self.owner = Owner(f"{world.seed}")
        self.plans: dict[str, AppPlan] = {}
        """Every app there ever was, as its owner wants it now."""
        world.chain.blocks.paid_sat = PAID_SAT
        self.internet.push(IMAGE)

    async def ready(self, nodes: Sequence[SimNode] = ()) -> None:
        """Start nodes (default: all); returns when all are READY."""
        nodes = nodes or self.world.nodes
        self._blocks_every(FAST_BLOCK_S)
        await stand(self.world, nodes)
        await self.world.until(
            lambda: all(node.running.orchestrator.ready.is_open for node in nodes), 4_000, "nodes are READY"
        )
        self._blocks_every(BLOCK_S)

    async def seed(self, *plans: AppPlan, before_blocks: int = 1000) -> None:
        """Apps that were registered so many blocks ago: every node, not yet started, knows them."""
        self.plans |= {plan.name: plan for plan in plans}
        messages = [self.owner.register(plan) for plan in plans]
        await seed_registry(
            self.world, messages, self.world.nodes, (), paid_sat=PAID_SAT, before_blocks=before_blocks
        )

    def _blocks_every(self, seconds: float) -> None:
        chain = self.world.chain
        chain.stop_ticker()
        chain.block_interval_ms = round(seconds * 1000)
        chain.start_ticker()

    async def register(self, *plans: AppPlan) -> list[AppMessage]:
        """Register apps, pay for them, and wait until every node that is up knows them."""
        return await self._publish(plans, [self.owner.register(plan) for plan in plans])

    async def update(self, *plans: AppPlan) -> list[AppMessage]:
        """Their owner wants these apps otherwise from now on."""
        now_ms = self.world.nodes[0].clock.now_ms()
        return await self._publish(plans, [self.owner.update(plan, now_ms) for plan in plans])

    async def _publish(self, plans: Sequence[AppPlan], messages: Sequence[AppMessage]) -> list[AppMessage]:
        world = self.world
        self.plans |= {plan.name: plan for plan in plans}
        await announce(world.up()[0], messages)
        await world.sleep(30)
        pay(world, messages)
        await world.until(
            lambda: all(knows(node, messages) for node in world.up() if world.peers(node)),
            10 * BLOCK_S,
            "all know the apps",
        )
        return list(messages)

    def hosts(self, plan: AppPlan) -> list[SimNode]:
        """Nodes on whose machines all containers of an app run."""
        wanted = set(plan.containers)
        return [node for node in self.world.nodes if wanted <= set(box_of(node).running())]

    async def hosted(self, plan: AppPlan, within_s: float = 4 * 3600) -> list[SimNode]:
        """Wait until as many nodes run an app as it wants; those nodes."""
        await self.world.until(
            lambda: len(self.hosts(plan)) >= plan.instances,
            within_s,
            f"{plan.instances} nodes run {plan.name}",
        )
        return self.hosts(plan)

    async def begin_anew(self) -> None:
        """All processes start again: what a node has tried in vain it tries again in a new life."""
        for node in self.world.up():
            await self.world.kill(node)
            await self.world.start(node)

    async def demand_tidy(self, *nodes: SimNode) -> None:
        """What is on these machines (default: all) is what their tables say."""
        for node in nodes or self.world.nodes:
            found = await self.untidy(node)
            check(not found, "; ".join(found))

    async def untidy(self, node: SimNode) -> list[str]:
        """Sentences about what is missing or left over there."""
        return await untidy(box_of(node), self.plans, self.owner.ports)

    async def installed_on(self, node: SimNode) -> set[str]:
        return set(await box_of(node).installed())

    async def settle(self, seconds: float) -> None:
        """Let time pass and look whether machines are tidy then."""
        await self.world.sleep(seconds)
        await self.demand_tidy()
