"""What stories about containers share: a network that is READY, apps in its registry, and looks at machines.

Facts: docs/spec/lifecycle.md §11-§13, docs/spec/testnet.md §8.
"""

from __future__ import annotations

from collections.abc import Sequence

from trionode.config.tree import PeerSettings, Settings
from trionode.registry.messages import AppMessage
from trionode.sim.appspecs import IMAGE, AppPlan, Owner
from trionode.sim.fleet import Fleet
from trionode.sim.machines import ContainerMachine, Hardware
from trionode.sim.node import SimNode
from trionode.sim.scenarios.registering import announce, knows, pay, stand
from trionode.sim.scenarios.watching import check
from trionode.sim.world import World, WorldPlan

PRODUCTION = Settings(peers=PeerSettings(threshold_reached=3, threshold_below=1))
"""Times of the real network; thresholds of peers for few nodes."""

CUMULUS = Hardware()
BLOCK_S, FAST_BLOCK_S = 120.0, 5.0
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


class Stage:
    """A world with an owner: `register` puts apps on the chain, `hosts` says where they run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fleet = fleet_of(world)
        self.internet = self.fleet.internet
        self.owner = Owner(f"{world.seed}")
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

    def _blocks_every(self, seconds: float) -> None:
        chain = self.world.chain
        chain.stop_ticker()
        chain.block_interval_ms = round(seconds * 1000)
        chain.start_ticker()

    async def register(self, *plans: AppPlan) -> list[AppMessage]:
        """Register apps, pay for them, and wait until every node that is up knows them."""
        return await self.publish(self.owner.register_all(plans))

    async def publish(self, messages: Sequence[AppMessage]) -> list[AppMessage]:
        world = self.world
        await announce(world.up()[0], messages)
        await world.sleep(30)
        pay(world, messages)
        await world.until(
            lambda: all(knows(node, messages) for node in world.up()), 5 * BLOCK_S, "all know the apps"
        )
        return list(messages)

    def hosts(self, plan: AppPlan) -> list[SimNode]:
        """Nodes on whose machines all containers of an app run."""
        wanted = set(plan.containers)
        return [node for node in self.world.nodes if wanted <= set(box_of(node).running())]
