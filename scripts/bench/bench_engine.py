"""The Docker adapter on a real engine, beside plain aiodocker under asyncio and http.client in the same run.

Times are wall times of the best round: the engine works on the same processors. `own CPU` is what this
process spends, which is what the adapter can be blamed for. Needs dockerd and root, or TRIONODE_TEST_ENGINE.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiodocker
import trio
from _harness import Bench

KIT = Path(__file__).resolve().parents[2] / "tests" / "kit"
sys.path.insert(0, str(KIT))

from busyboximages import import_image  # noqa: E402
from dockerengine import running_engine, why_not  # noqa: E402
from engineapi import EngineApi  # noqa: E402

from trionode.containers.docker.engine import open_docker  # noqa: E402
from trionode.containers.docker.machine import limit_open_files, open_files_here  # noqa: E402
from trionode.containers.engine import Engine  # noqa: E402
from trionode.containers.memory.engine import MemoryEngine  # noqa: E402
from trionode.containers.memory.objects import RegistryImage  # noqa: E402
from trionode.plans.createoptions import CreateOptions, docker_body  # noqa: E402

CONTAINERS, STARTED = 150, 20
ROUNDS = 3
SECONDS = 1.5
EVENTS = 100
IDLE_S = 5.0
IMAGE = "bench/steady:1"
PULSE = "fluxpulse_bench"

Call = Callable[[], Awaitable[Any]]
Figures = dict[str, tuple[float, float]]
"""What was measured: wall seconds and own CPU seconds of one."""


def options(name: str) -> CreateOptions:
    return CreateOptions(
        name=name,
        app="bench",
        identifier=name.removeprefix("flux"),
        image=IMAGE,
        hostname="bench",
        network="none",
        host_service_ip="169.254.43.43",
        memory_bytes=32 << 20,
        memory_swap_bytes=64 << 20,
    )


def names() -> list[str]:
    return [f"fluxpart{number}_bench" for number in range(CONTAINERS)]


async def measured(call: Call, seconds: float = SECONDS) -> tuple[float, float]:
    """Wall and CPU seconds of one call, over about `seconds`."""
    await call()
    count, began, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        await call()
        count += 1
    return (time.perf_counter() - began) / count, (time.process_time() - cpu) / count


async def once(call: Call) -> tuple[float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    await call()
    return time.perf_counter() - began, time.process_time() - cpu


# --- the adapter ------------------------------------------------------------------------------


async def with_adapter(url: str, api: EngineApi) -> Figures:
    async with open_docker(url) as engine:
        found: Figures = {
            "list": await measured(engine.containers),
            "inspect": await measured(lambda: engine.inspect(names()[0])),
            "inspect, 20 at once": await measured(lambda: at_once(engine.inspect)),
            "20 starts at once": await once(lambda: at_once(engine.start)),
            "20 kills at once": await once(lambda: at_once(engine.kill)),
        }
        async with engine.events() as events:
            delays = []

            async def pulse() -> None:
                for _ in range(EVENTS):
                    await trio.to_thread.run_sync(api.call, "POST", f"/containers/{PULSE}/rename", renaming())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(pulse)
                async for event in events:
                    delays.append(time.time_ns() / 1e9 - event.at_ms / 1e3)
                    if len(delays) == EVENTS:
                        break
            found["event"] = (statistics.median(delays), 0.0)
            cpu = time.process_time()
            with trio.move_on_after(IDLE_S):
                await anext(events)
            found["idle"] = (0.0, (time.process_time() - cpu) / IDLE_S)
        return found


async def at_once(call: Callable[[str], Awaitable[object]]) -> None:
    async with trio.open_nursery() as nursery:
        for name in names()[:STARTED]:
            nursery.start_soon(call, name)


_pulses = 0


def renaming() -> dict[str, str]:
    """Renames the container to another name and back: an event each time, and nearly no work."""
    global PULSE, _pulses
    _pulses += 1
    PULSE = f"fluxpulse_bench{_pulses}"
    return {"name": PULSE}


# --- plain aiodocker under asyncio ------------------------------------------------------------


async def with_aiodocker(url: str, api: EngineApi) -> Figures:
    async with aiodocker.Docker(url=url) as docker:
        parts = [docker.containers.container(name) for name in names()[:STARTED]]

        async def gather(call: Callable[[Any], Awaitable[object]]) -> None:
            await asyncio.gather(*(call(part) for part in parts))

        found: Figures = {
            "list": await measured(lambda: docker.containers.list(all=True)),
            "inspect": await measured(parts[0].show),
            "inspect, 20 at once": await measured(lambda: gather(lambda part: part.show())),
            "20 starts at once": await once(lambda: gather(lambda part: part.start())),
            "20 kills at once": await once(lambda: gather(lambda part: part.kill())),
        }
        subscriber = docker.events.subscribe()  # type: ignore[no-untyped-call]
        await asyncio.sleep(0.5)
        delays: list[float] = []

        async def pulse() -> None:
            for _ in range(EVENTS):
                await asyncio.to_thread(api.call, "POST", f"/containers/{PULSE}/rename", renaming())

        task = asyncio.ensure_future(pulse())
        while len(delays) < EVENTS:
            event = await subscriber.get()
            delays.append(time.time_ns() / 1e9 - event["timeNano"] // 1_000_000 / 1e3)
        await task
        found["event"] = (statistics.median(delays), 0.0)
        return found


def with_http_client(api: EngineApi) -> Figures:
    """Blocking calls, each on a connection of its own, decoded by msgspec."""

    async def list_all() -> None:
        api.containers()

    async def inspect() -> None:
        api.inspect(names()[0])

    async def both() -> Figures:
        return {"list": await measured(list_all), "inspect": await measured(inspect)}

    return trio.run(both)


# --- the twin ---------------------------------------------------------------------------------


async def with_twin() -> Figures:
    engine: Engine = MemoryEngine(registry={IMAGE: RegistryImage()})
    async with engine.pull(IMAGE) as messages:
        async for _ in messages:
            pass
    for name in names():
        await engine.create(options(name))
    return {
        "list": await measured(engine.containers, 0.5),
        "inspect": await measured(lambda: engine.inspect(names()[0]), 0.5),
        "start and kill": await measured(lambda: start_and_kill(engine), 0.5),
    }


async def start_and_kill(engine: Engine) -> None:
    await engine.start(names()[0])
    await engine.kill(names()[0])


def best(rounds: list[Figures]) -> Figures:
    return {name: min(one[name] for one in rounds) for name in rounds[0]}


def prepare(api: EngineApi) -> None:
    import_image(api, IMAGE)
    for name in [*names(), PULSE]:
        body = limit_open_files(docker_body(options(name)), open_files_here())
        # Nothing can be added to a container of no network.
        body["HostConfig"].pop("ExtraHosts")
        api.call("POST", "/containers/create", {"name": name}, body=body)


def main() -> int:
    bench = Bench(f"The engine with {CONTAINERS} containers, best of {ROUNDS} rounds")
    twin = trio.run(with_twin)
    reason = why_not()
    if reason is not None:
        print(f"only the twin is measured: {reason}", file=sys.stderr)
    else:
        # A short path: unix sockets are in it.
        with tempfile.TemporaryDirectory(prefix="be-", dir="/tmp") as folder:
            measure(bench, Path(folder))
    for name, (wall_s, _) in twin.items():
        bench.add(f"twin: {name}", 1 / wall_s, "1/s")
    return bench.finish()


def measure(bench: Bench, folder: Path) -> None:
    with running_engine(folder / "e") as started:
        api, url = started.api, started.at.url
        prepare(api)
        ours, plain, raw = [], [], []
        for _ in range(ROUNDS):
            plain.append(asyncio.run(with_aiodocker(url, api)))
            gc.collect()
            ours.append(trio.run(with_adapter, url, api))
            raw.append(with_http_client(api))
    adapter, aio, http = best(ours), best(plain), best(raw)
    for name in ("list", "inspect"):
        bench.add(f"{name}, http.client", 1 / http[name][0], "1/s")
        bench.add(f"{name}, aiodocker", 1 / aio[name][0], "1/s")
        bench.add(f"{name}, adapter", 1 / adapter[name][0], "1/s", baseline=f"{name}, aiodocker")
        bench.add(f"{name}, own CPU, aiodocker", aio[name][1] * 1e3, "ms")
        bench.add(
            f"{name}, own CPU, adapter",
            adapter[name][1] * 1e3,
            "ms",
            baseline=f"{name}, own CPU, aiodocker",
            better="lower",
        )
    for name in ("inspect, 20 at once", "20 starts at once", "20 kills at once"):
        bench.add(f"{name}, aiodocker", aio[name][0] * 1e3, "ms")
        bench.add(
            f"{name}, adapter", adapter[name][0] * 1e3, "ms", baseline=f"{name}, aiodocker", better="lower"
        )
    bench.add("event to listener, aiodocker", aio["event"][0] * 1e3, "ms")
    bench.add(
        "event to listener, adapter",
        adapter["event"][0] * 1e3,
        "ms",
        baseline="event to listener, aiodocker",
        goal=50,
        better="lower",
    )
    bench.add("listening while idle", adapter["idle"][1] * 100, "% CPU", goal=0.1, better="lower")


if __name__ == "__main__":
    raise SystemExit(main())
