"""Carries out the steps of a plan in a world, and undoes all of them when the faults end."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import trio

from trionode.sim.chainfaults import Mode
from trionode.sim.conditions import BlockMeans, Conditions
from trionode.sim.node import SimNode
from trionode.sim.runs.plan import (
    AnyStep,
    Apps,
    Break,
    Cut,
    Daemons,
    Down,
    Join,
    RunPlan,
    Skew,
    Storm,
    Unconfirm,
    Unlist,
)
from trionode.sim.world import World, app


class Troubles:
    """What is wrong in a world at present. `gone` are the nodes that will not come back."""

    def __init__(self, world: World, plan: RunPlan) -> None:
        self._world = world
        self._plan = plan
        self._cuts: dict[int, Cut] = {}
        self._storms: dict[int, Storm] = {}
        self._serial = 0
        self._unlisted: dict[int, int] = {}
        self.on_goodbye: Callable[[SimNode, dict[int, int]], None] = lambda node, clocks: None
        """Told of a node whose machine has gone down in order, and of all clocks as it began to."""
        self.gone: dict[int, None] = {}
        self.unlisted_for_ever: dict[int, None] = {}

    # --- the whole --------------------------------------------------------------------------

    async def run(self) -> None:
        """All steps at their times; ends with the faults. Changes of apps may come later."""
        with trio.move_on_at(self._plan.weather_s):
            async with trio.open_nursery() as nursery:
                for step in self._plan.steps:
                    if step.at_s < self._plan.weather_s:
                        nursery.start_soon(self._at_its_time, step)
                await trio.sleep_forever()
        await self._end()

    async def late_changes(self) -> None:
        """The changes of apps that are planned for the time of calm."""
        for step in self._plan.steps:
            if step.at_s >= self._plan.weather_s and isinstance(step, Apps):
                await trio.sleep_until(step.at_s)
                self._change_apps(step)

    async def _at_its_time(self, step: AnyStep) -> None:
        await trio.sleep_until(step.at_s)
        self._world.note(f"step {msgspec.json.encode(step).decode()}")
        match step:
            case Apps():
                self._change_apps(step)
            case Join():
                if self._node(step.node).starts == 0:
                    await self._start(self._node(step.node))
            case Down():
                await self._down(step)
            case Skew():
                self._node(step.node).clock.skew_ms = step.skew_ms
            case Daemons():
                await self._daemons(step)
            case Unlist():
                await self._unlist(step)
            case Unconfirm():
                self._world.chain.unconfirm(self._node(step.node).address)
                await trio.sleep(step.for_s)
                self._world.chain.confirm(self._node(step.node).address)
            case Cut():
                await self._cut(step)
            case Break():
                first, second = map(self._node, step.between)
                self._world.network.kill_links(first.ip, second.ip)
            case Storm():
                await self._storm(step)
        self._look()

    async def _end(self) -> None:
        """Everything heals, and everybody who is to come back does."""
        world = self._world
        world.note("the faults end")
        self._cuts.clear()
        self._storms.clear()
        world.heal()
        self._set_weather()
        world.chain.clear_status()
        world.chain.behave("all", Mode.OK)
        for number in self._unlisted:
            if number not in self.unlisted_for_ever:
                world.chain.restore_node(self._node(number).address)
        for node in world.nodes:
            if not node.is_running and node.number not in self.gone:
                await self._start(node)
        self._look()

    # --- single troubles --------------------------------------------------------------------

    def _node(self, number: int) -> SimNode:
        return self._world.nodes[number]

    def _change_apps(self, step: Apps) -> None:
        node = self._node(step.node)
        if node.number not in self.gone:
            self._world.note(f"apps of {node.name}: {' '.join(step.names)}")
            node.apps.replace(tuple(app(name) for name in step.names))

    async def _down(self, step: Down) -> None:
        world, node = self._world, self._node(step.node)
        if not node.is_running:
            return
        if step.for_s is None:
            self.gone[node.number] = None
        with trio.CancelScope(shield=True):
            match step.how:
                case "kill":
                    await world.kill(node)
                case "power":
                    await world.power_cut(node)
                case "stop":
                    await world.stop(node)
                case "sigterm":
                    clocks = {other.number: other.clock.skew_ms for other in world.nodes}
                    await world.sigterm(node)
                    self.on_goodbye(node, clocks)
            if step.disk_lost:
                node.lose_disk()
        self._look()
        if step.for_s is not None:
            await trio.sleep(step.for_s)
            await self._start(node)

    async def _start(self, node: SimNode) -> None:
        if node.is_running:
            return
        with trio.CancelScope(shield=True):
            await self._world.start(node)

    async def _daemons(self, step: Daemons) -> None:
        chain, address = self._world.chain, self._node(step.node).address
        chain.behave(address, step.mode, step.delay_ms)
        await trio.sleep(step.for_s)
        chain.behave(address, Mode.OK)

    async def _unlist(self, step: Unlist) -> None:
        chain, node = self._world.chain, self._node(step.node)
        if node.number in self._unlisted:
            return
        self._unlisted[node.number] = 1
        chain.remove_node(node.address)
        if step.for_s is None:
            self.unlisted_for_ever[node.number] = None
            return
        await trio.sleep(step.for_s)
        chain.restore_node(node.address)
        del self._unlisted[node.number]

    async def _cut(self, step: Cut) -> None:
        serial = self._next()
        self._cuts[serial] = step
        self._set_paths()
        await trio.sleep(step.for_s)
        del self._cuts[serial]
        self._set_paths()

    def _set_paths(self) -> None:
        blocked: dict[tuple[str, str], BlockMeans] = {}
        for cut in self._cuts.values():
            inside = [self._node(number).ip for number in cut.among]
            outside = [node.ip for node in self._world.nodes if node.number not in cut.among]
            for ours in inside:
                for theirs in outside:
                    blocked[ours, theirs] = cut.means
                    if not cut.one_way:
                        blocked[theirs, ours] = cut.means
        self._world.network.set_blocked(blocked, f"{len(self._cuts)} cuts")

    async def _storm(self, step: Storm) -> None:
        serial = self._next()
        self._storms[serial] = step
        self._set_weather()
        await trio.sleep(step.for_s)
        del self._storms[serial]
        self._set_weather()

    def _set_weather(self) -> None:
        """The latest storm, or none."""
        weather: Conditions = self._plan.conditions
        for storm in self._storms.values():
            weather = msgspec.structs.replace(
                self._plan.conditions,
                loss=storm.loss,
                loss_means=storm.loss_means,
                duplicate=storm.duplicate,
                reorder=storm.reorder,
            )
        self._world.network.set_conditions(weather)

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _look(self) -> None:
        """After a step everything must still hold."""
        if self._world.checks is not None:
            self._world.checks.whole(self._world.nodes)


def alive(nodes: Iterable[SimNode]) -> list[SimNode]:
    """The nodes that run."""
    return [node for node in nodes if node.is_running]
