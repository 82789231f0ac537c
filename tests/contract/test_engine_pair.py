"""The twin and a real engine are told the same, at random, and must do and answer the same all along."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from dockerengine import TestEngine
from engineworld import APP, NETWORK, World, docker_world, options
from imageregistry import TestRegistry

from trionode.containers.engine import Engine, EngineError, EngineEvent
from trionode.plans.networks import Subnet

from .conftest import memory_world

pytestmark = [pytest.mark.trio, pytest.mark.process]

STEPS = 70
CONTAINERS = (f"fluxone_{APP}", f"fluxtwo_{APP}")
NETWORKS = (NETWORK, f"{NETWORK}2")
STATIC_IP = "172.23.231.9"
SETTLE_S = 0.5
WITHIN_S = 60
VERBS = (
    *("create", "create", "create_static", "start", "start", "start", "stop", "kill", "pause", "unpause"),
    *("remove", "force_remove", "create_network", "create_network", "remove_network"),
    *("connect", "connect", "disconnect", "vanish"),
)

Step = tuple[str, ...]


def draw(rng: random.Random) -> Step:
    """Something to do, often something that makes no sense."""
    verb = rng.choice(VERBS)
    if "network" in verb:
        return (verb, rng.choice(NETWORKS), rng.choice(["231", "232"]))
    return (verb, rng.choice(CONTAINERS), rng.choice(NETWORKS))


async def do(world: World, step: Step) -> str:
    """Do it; how it went."""
    engine, (verb, name, other) = world.engine, step
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "create": lambda: engine.create(options(name, network=other)),
        "create_static": lambda: engine.create(options(name, network=NETWORK, static_ip=STATIC_IP)),
        "start": lambda: engine.start(name),
        "stop": lambda: engine.stop(name, WITHIN_S),
        "kill": lambda: engine.kill(name),
        "pause": lambda: engine.pause(name),
        "unpause": lambda: engine.unpause(name),
        "remove": lambda: engine.remove(name),
        "force_remove": lambda: engine.remove(name, force=True),
        "create_network": lambda: engine.create_network(name, Subnet(int(other)), APP),
        "remove_network": lambda: engine.remove_network(name),
        "connect": lambda: engine.connect(name, other),
        "disconnect": lambda: engine.disconnect(name, other),
        "vanish": lambda: vanish(world, name),
    }
    try:
        await calls[verb]()
    except EngineError as error:
        return type(error).__name__
    if verb == "start":
        await world.heeds(name)
    return "done"


async def vanish(world: World, name: str) -> None:
    if name in {row.name for row in await world.engine.containers()}:
        await world.vanish(name)


async def look(engine: Engine) -> dict[str, object]:
    """Everything that both must agree on."""
    found: dict[str, object] = {}
    for row in await engine.containers():
        if row.labels.get("trionode.app") == APP:
            looked = await engine.inspect(row.name)
            found[row.name] = (
                row.state,
                looked.exit_code,
                sorted(looked.addresses.items()),
                looked.started_ms is None,
                looked.finished_ms is None,
            )
    for one in await engine.networks():
        if one.labels.get("trionode.app") == APP:
            network = await engine.network(one.name)
            found[one.name] = (network.subnet, sorted(network.endpoints.items()))
    return found


def told(events: list[EngineEvent]) -> list[tuple[str, str, str, int | None]]:
    """What was told of containers, in order."""
    return [(one.kind, one.action, one.name, one.exit_code) for one in events if one.kind == "container"]


async def all_told(real: list[EngineEvent], twin: list[EngineEvent]) -> None:
    """Wait until the real one has told as much as the twin, and a little for what it should not tell."""
    with trio.move_on_after(WITHIN_S):
        while len(told(real)) < len(told(twin)):  # noqa: ASYNC110 - what is not told is no event
            await trio.sleep(0.02)
    await trio.sleep(SETTLE_S)


async def listen(engine: Engine, heard: list[EngineEvent], *, task_status: trio.TaskStatus[None]) -> None:
    async with engine.events() as events:
        task_status.started()
        async for event in events:
            heard.append(event)  # noqa: PERF401 - the stream has no end


@pytest.mark.parametrize("seed", [1, 14, 22])
@pytest.mark.timeout(900)
async def test_both_do_the_same(
    seed: int, engine: TestEngine, image_registry: TestRegistry, engine_turn: None
) -> None:
    rng = random.Random(seed)
    twin = await memory_world()
    steps: list[tuple[Step, str]] = []
    of_real: list[EngineEvent] = []
    of_twin: list[EngineEvent] = []
    async with docker_world(engine, image_registry) as real, trio.open_nursery() as nursery:
        await nursery.start(listen, real.engine, of_real)
        await nursery.start(listen, twin.engine, of_twin)
        for _ in range(STEPS):
            step = draw(rng)
            outcome = await do(real, step)
            steps.append((step, outcome))
            said = await do(twin, step)
            if step[0] == "start" and {said, outcome} == {"NotFound", "EngineError"}:
                # With two reasons not to start, the real one tells any of them.
                outcome = said
            there = await look(real.engine)
            assert (said, await look(twin.engine)) == (outcome, there), "\n".join(map(str, steps))
        await all_told(of_real, of_twin)
        assert told(of_twin) == told(of_real)
        nursery.cancel_scope.cancel()
