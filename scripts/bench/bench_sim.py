"""The simulator: virtual seconds per real second of whole networks, and the cost of one delivery.

Speed comes from the scenario "hour" (discovery, pings, announcements, kills and restarts, all invariants
checked) at several sizes. Delivery is the courier's own share: bare links that send, deliver and read.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import msgspec
import trio
from _harness import Bench

from trionode.peers.link import Hello, InboundRequest
from trionode.sim.clock import IDLE_HOOK, IdleHook, sim_clock
from trionode.sim.network import VirtualNetwork
from trionode.sim.scenario import deterministic_scheduling, run_scenario
from trionode.sim.scenarios import scenario_named
from trionode.sim.transport import VirtualTransport

SEED = 1
GOAL_NODES = 30
GOAL_SPEED = 500.0
GOAL_NODE_SECONDS = 1000.0
SIZES = (8, 16, GOAL_NODES, 100)
MESSAGES = 60_000
BURST = 500


def deliveries() -> float:
    """CPU microseconds to send, deliver and read one message on a bare link."""
    hook = IdleHook()
    took: list[float] = []

    async def main() -> None:
        IDLE_HOOK.set(hook)
        network = VirtualNetwork(random.Random(SEED))
        listener = VirtualTransport(network, "20.1.10.1")
        dialler = VirtualTransport(network, "20.2.10.1")

        async def on_peer(request: InboundRequest) -> None:
            async with request.accept(Hello()) as link:
                for _ in range(MESSAGES):
                    await link.receive()
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            await nursery.start(listener.serve, on_peer)
            async with dialler.dial("20.1.10.1", 16127, Hello(), own_port=16127) as link:
                messages = [dialler.prepare(bytes([1]) + network.rng.randbytes(20)) for _ in range(100)]
                for number in range(MESSAGES):
                    await link.send(messages[number % 100])
                    if number % BURST == BURST - 1:
                        await trio.sleep(0.1)
                await trio.sleep(1)

    async def timed() -> None:
        start = time.thread_time()
        await main()
        took.append(time.thread_time() - start)

    with deterministic_scheduling(SEED):
        trio.run(timed, clock=sim_clock(hook))
    return took[-1] / MESSAGES * 1e6


def hour(nodes: int, *, checks: bool = True) -> Any:
    scenario = scenario_named("hour")
    plan = msgspec.structs.replace(scenario.plan, checks=checks)
    return run_scenario(msgspec.structs.replace(scenario, plan=plan), seed=SEED, nodes=nodes)


def main() -> int:
    bench = Bench("Simulator (one virtual hour, seed 1; speeds in virtual seconds per real second)")
    bench.add("one delivery on a bare link", deliveries(), "us", goal=10.0, better="lower")
    for nodes in SIZES:
        began = time.thread_time()
        report = hour(nodes)
        per_cpu_second = report.virtual_s / (time.thread_time() - began)
        goal = GOAL_SPEED if nodes == GOAL_NODES else None
        note = (
            f"{per_cpu_second:.0f} per CPU second; {report.real_s:.1f} s real, {report.delivered} "
            f"deliveries, {report.checks} checks"
        )
        bench.add(f"speed, {nodes} nodes", report.speed, "x", goal=goal, note=note)
        if nodes == SIZES[-1]:
            bench.add(
                f"node-seconds per second, {nodes} nodes",
                report.speed * nodes,
                "1/s",
                goal=GOAL_NODE_SECONDS,
            )
    bare = hour(GOAL_NODES, checks=False)
    bench.add(f"speed, {GOAL_NODES} nodes, no checks", bare.speed, "x", baseline=f"speed, {GOAL_NODES} nodes")
    again = hour(GOAL_NODES, checks=False)
    if again.trace != bare.trace:
        print("the same seed gave another trace", file=sys.stderr)
        return 1
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
