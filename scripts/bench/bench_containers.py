"""Boot, health and idling of a node with apps on a real engine (docs/spec/lifecycle.md §4, §9).

The same containers are started one after the other by plain calls first: that is the yardstick of the boot.
Times are wall times, of the engine's work too, and wander by a third on a busy machine; `own CPU` is what
this process spends. Needs dockerd and root.
"""

from __future__ import annotations

import os
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from _harness import Bench

KIT = Path(__file__).resolve().parents[2] / "tests" / "kit"
sys.path.insert(0, str(KIT))

from appworld import app, part  # noqa: E402
from busyboximages import import_image  # noqa: E402
from dockerengine import running_engine, why_not  # noqa: E402
from engineapi import EngineApi  # noqa: E402
from hostworld import HostWorld, Node  # noqa: E402

from trionode.config.tree import BootSettings, HostingSettings, SystemSettings  # noqa: E402
from trionode.containers.docker.engine import open_docker  # noqa: E402
from trionode.containers.engine import Engine  # noqa: E402
from trionode.hosting.boot import BootGates, BootManager  # noqa: E402
from trionode.hosting.departure import KILL_S  # noqa: E402
from trionode.hosting.heartbeat import Heartbeat  # noqa: E402
from trionode.hosting.removal import AppRemoval  # noqa: E402
from trionode.lifecycle.boot import BootLimits  # noqa: E402
from trionode.lifecycle.local import RUNNING  # noqa: E402
from trionode.plans.createoptions import CreateOptions  # noqa: E402
from trionode.plans.health import plan_health  # noqa: E402
from trionode.plans.networks import Subnet, network_name  # noqa: E402
from trionode.runtime.clock import SystemClock  # noqa: E402
from trionode.runtime.gate import Gate  # noqa: E402
from trionode.runtime.machine import MemoryMachine  # noqa: E402
from trionode.store.memory import MemoryStore  # noqa: E402

APPS, PARTS = 50, 3
IMAGE = "bench/app:1"
KILLS = 10
IDLE_S = 20.0
FIRST_PORT = 31000


def spec(number: int) -> dict[str, object]:
    return app(f"app{number}", *[part(f"part{index}", image=IMAGE) for index in range(PARTS)])


def names(apps: int = APPS) -> list[str]:
    return [f"fluxpart{index}_app{number}" for number in range(apps) for index in range(PARTS)]


async def create(engine: Engine) -> None:
    """All apps as an install leaves them, but stopped: a network each, a port at the first component."""
    for number in range(APPS):
        network = network_name(f"app{number}")
        await engine.create_network(network, Subnet(number), f"app{number}")
        for index in range(PARTS):
            await engine.create(
                CreateOptions(
                    name=f"fluxpart{index}_app{number}",
                    app=f"app{number}",
                    identifier=f"part{index}_app{number}",
                    image=IMAGE,
                    hostname=f"part{index}",
                    network=network,
                    ports=() if index else ((80, FIRST_PORT + number),),
                    memory_bytes=32 << 20,
                    memory_swap_bytes=64 << 20,
                    nano_cpus=10**8,
                    host_service_ip="169.254.43.43",
                )
            )


async def one_by_one(engine: Engine) -> float:
    """Plain start calls in a row, without the pauses the original makes."""
    began_s = time.perf_counter()
    for name in names():
        await engine.start(name)
    return time.perf_counter() - began_s


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def stop_all(engine: Engine, grace_s: float) -> tuple[float, float]:
    """As at the departure, all side by side: seconds until the last process ended, and all was tidied up."""
    left = [(await engine.inspect(name)).pid for name in names()]
    began_s, ended_s = time.perf_counter(), 0.0

    async def watch() -> None:
        nonlocal left, ended_s
        while left:
            await trio.sleep(0.05)
            left = [pid for pid in left if lives(pid)]
        ended_s = time.perf_counter() - began_s

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for name in names():
            nursery.start_soon(engine.stop, name, grace_s)
    return ended_s, time.perf_counter() - began_s


async def boot(node: Node) -> float:
    """The boot manager's reconcile after a power cut; seconds until it has settled."""
    store, machine = MemoryStore(), MemoryMachine()
    heartbeat = Heartbeat(SystemSettings(), store, machine, node.clock, node.counters)
    opened = Gate(is_open=True)
    manager = BootManager(
        SystemSettings(),
        BootSettings(),
        HostingSettings(),
        BootLimits(),
        host=node.host,
        heartbeat=heartbeat,
        removal=AppRemoval(node.host, node.counters),
        gates=BootGates(
            daemon_ready=opened,
            status_known=opened,
            db_ready=opened,
            confirmed=lambda: True,
            is_dos=lambda: False,
            listed=lambda name: True,
            specs=lambda name: next(row.components for row in node.host.installed() if row.name == name),
            engine_ready=node.reachable,
        ),
        bus=node.bus,
        counters=node.counters,
    )
    began_s = time.perf_counter()
    async with trio.open_nursery() as nursery:
        await nursery.start(heartbeat.run)
        await nursery.start(manager.run)
        await manager.settled.wait()
        took_s = time.perf_counter() - began_s
        nursery.cancel_scope.cancel()
    assert len(manager.results.started) == APPS, manager.results
    return took_s


async def recoveries(node: Node, engine: Engine) -> tuple[float, float]:
    """Seconds from the end of a container's process to its next start: median and worst."""
    found = []
    for number in range(KILLS):
        name = f"fluxpart1_app{number}"
        before = await engine.inspect(name)
        os.kill(before.pid, signal.SIGKILL)
        while True:
            await trio.sleep(0.02)
            after = await engine.inspect(name)
            if after.state == RUNNING and after.started_ms != before.started_ms:
                break
        ended_ms = after.finished_ms or 0
        found.append(((after.started_ms or 0) - ended_ms) / 1000)
    return statistics.median(found), max(found)


async def idle(seconds: float) -> float:
    """Share of one processor this process takes while nothing happens."""
    began = resource.getrusage(resource.RUSAGE_SELF)
    await trio.sleep(seconds)
    ended = resource.getrusage(resource.RUSAGE_SELF)
    return 100 * (ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime) / seconds


@asynccontextmanager
async def process(world: HostWorld, engine: Engine, *, settled: bool) -> AsyncIterator[Node]:
    """Host, health and mounts of a node whose local table names all apps."""
    life = await world.life()
    for number in range(APPS):
        await life.installed.put(spec(number))
    node = Node(world, life, settled=settled, engine=engine, clock=SystemClock())
    async with node.running():
        yield node


async def pass_s(node: Node, engine: Engine) -> tuple[float, float]:
    """One list call and one plan over everything: wall and own CPU seconds, of ten."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for _ in range(10):
        await engine.containers()
        assert await node.health.plan() == ()
    return (time.perf_counter() - began_s) / 10, (time.process_time() - cpu_s) / 10


async def run(bench: Bench, url: str, api: EngineApi) -> None:
    import_image(api, IMAGE)
    async with open_docker(url) as engine:
        await create(engine)
        row_s = await one_by_one(engine)
        bench.add("start calls in a row", row_s, "s", better="lower", note=f"{APPS * PARTS} containers")
        pauses_s = row_s + 2.0 * APPS * PARTS
        bench.add("the same with the original's pauses", pauses_s, "s", better="lower", note="reckoned")
        ended_s, tidied_s = await stop_all(engine, 9.0)
        bench.add("departure: all processes ended", ended_s, "s", goal=9.0 + KILL_S, better="lower")
        bench.add("departure: the engine is through with them", tidied_s, "s", better="lower")
        world = HostWorld()
        async with process(world, engine, settled=False) as node:
            took_s = await boot(node)
            bench.add(
                "boot reconcile, 50 apps x 3",
                took_s,
                "s",
                baseline="start calls in a row",
                goal=60.0,
                better="lower",
                note="16 apps at a time, 2 s between components",
            )
            node.settled.open()
            await trio.sleep(2)
            wall_s, cpu_s = await pass_s(node, engine)
            bench.add("health pass over 150", wall_s, "s", goal=1.5, better="lower", note="one list call")
            bench.add("health pass, own CPU", cpu_s * 1000, "ms", better="lower")
            facts = await node.health._facts(slow=True)
            began_s = time.perf_counter()
            plan_health(facts)
            plan_ms = (time.perf_counter() - began_s) * 1000
            bench.add("plan_health over 150", plan_ms, "ms", goal=5.0, better="lower")
            median_s, worst_s = await recoveries(node, engine)
            bench.add("end to recovery start, median", median_s, "s", goal=1.0, better="lower")
            bench.add("end to recovery start, worst", worst_s, "s", goal=1.0, better="lower")
            await trio.sleep(5)
            share = await idle(IDLE_S)
            bench.add("idle CPU, 150 containers", share, "%", goal=2.0, better="lower", note="of one core")
        for name in names():
            await engine.remove(name, force=True)
        for number in range(APPS):
            await engine.remove_network(network_name(f"app{number}"))


def main() -> int:
    reason = why_not()
    if reason is not None:
        print(f"not run: {reason}")
        return 0
    bench = Bench("Containers of a node on a real engine")
    with running_engine(Path(tempfile.mkdtemp(prefix="tb-", dir="/tmp"))) as engine:
        trio.run(run, bench, engine.at.url, engine.at.api)
    return bench.finish()


if __name__ == "__main__":
    raise SystemExit(main())
