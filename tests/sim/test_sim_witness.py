"""Nodes of the simulated world knock at one another's ports as real ones do."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from trionode.lifecycle.dos import Knock
from trionode.sim.scenario import Scenario, run_scenario
from trionode.sim.world import World, WorldPlan
from trionode.sync.witness import PortWitness, PortWord, ReachWitness
from trionode.wire.keys import NodeKey


def play(story: Callable[[World], Awaitable[None]], plan: WorldPlan) -> None:
    run_scenario(Scenario(name="test", summary="", story=story, plan=plan, min_nodes=1), seed=2)


def test_what_others_find() -> None:
    async def story(world: World) -> None:
        await world.start_all()
        us, them, gone = world.nodes
        source = world.http.of(us.ip)
        reach = ReachWitness(source, 7.0)
        ports = PortWitness(source, NodeKey.generate(random.Random(1)))

        async def knocked() -> Knock:
            return await reach.reaches_us(them.ip, them.port, us.ip, us.port)

        async def tested() -> PortWord:
            return await ports.reaches_ports(
                them.ip, them.port, own_ip=us.ip, own_port=us.port, ports=(31000, 31001), timeout_s=30
            )

        assert await knocked() is Knock.REACHED
        assert await tested() == PortWord(Knock.REACHED)
        world.http.port_answers = lambda ip, port: (ip, port) != (us.ip, 31001)
        assert await tested() == PortWord(Knock.SHUT, 31001)
        await world.stop(gone)
        assert await reach.reaches_us(gone.ip, gone.port, us.ip, us.port) is Knock.SILENT
        world.partition([us], [them])
        before_s = world.now_s
        assert await knocked() is Knock.SILENT
        assert round(world.now_s - before_s, 6) == 7.0

    play(story, WorldPlan(nodes=3))


def test_a_node_that_is_cut_off_grows_a_penalty_and_loses_it_again() -> None:
    async def story(world: World) -> None:
        await world.start_all()
        await world.sleep(600)
        assert {node.running.dos.state for node in world.nodes} == {0}
        alone, *others = world.nodes
        world.partition([alone], others)
        await world.sleep(300)
        assert alone.running.dos.of("reachability") > 10
        assert {node.running.dos.state for node in others} == {0}
        world.heal()
        await world.sleep(200)
        assert alone.running.dos.of("reachability") == 0

    play(story, WorldPlan(nodes=16))
