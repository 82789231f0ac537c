"""The twin of the engine: its faults, its records, and that a run of it can be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from engineworld import APP, NETWORK, STEADY, options

from trionode.containers.engine import (
    Conflict,
    Credentials,
    Engine,
    EngineError,
    EngineEvent,
    EngineUnreachable,
    NotFound,
)
from trionode.containers.memory.engine import MemoryEngine
from trionode.containers.memory.events import QUEUE_EVENTS
from trionode.containers.memory.faults import ACTIONS_KEPT
from trionode.containers.memory.objects import LINES_KEPT, RegistryImage, familiar, repository_of
from trionode.plans.networks import Subnet
from trionode.runtime.clock import VirtualClock

pytestmark = pytest.mark.trio

NAME = f"fluxweb_{APP}"
OTHER = f"fluxother_{APP}"


async def fetch(engine: Engine, image: str, credentials: Credentials | None = None) -> None:
    async with engine.pull(image, credentials) as messages:
        async for _ in messages:
            pass


@pytest.fixture
async def engine() -> MemoryEngine:
    made = MemoryEngine(VirtualClock(), name="node1", registry={STEADY: RegistryImage()})
    await fetch(made, STEADY)
    await made.create_network(NETWORK, Subnet(7), APP)
    await made.create(options())
    await made.start(NAME)
    made.actions.clear()
    return made


async def state(engine: MemoryEngine, name: str = NAME) -> str:
    return (await engine.inspect(name)).state


async def test_a_run_can_be_repeated() -> None:
    async def one(name: str) -> list[object]:
        made = MemoryEngine(VirtualClock(), name=name, registry={STEADY: RegistryImage(volumes=("/v",))})
        await fetch(made, STEADY)
        await made.create(options(network="bridge"))
        await made.start(NAME)
        return [await made.containers(), await made.networks(), await made.images(), await made.volumes()]

    first = await one("a")
    with trio.move_on_after(0):
        await trio.sleep_forever()
    assert [str(part)[:400] for part in await one("b")] != [str(part)[:400] for part in first]
    again = await one("a")
    assert [[getattr(row, "id", row) for row in part] for part in again] == [  # type: ignore[attr-defined]
        [getattr(row, "id", row) for row in part]  # type: ignore[attr-defined]
        for part in first
    ]


async def test_failing_operations_fail_until_they_are_taken_out(engine: MemoryEngine) -> None:
    engine.failing |= {("stop", NAME), ("create", "*")}
    for _ in range(2):
        with pytest.raises(EngineError):
            await engine.stop(NAME, 1)
        with pytest.raises(EngineError):
            await engine.create(options(OTHER))
    assert await state(engine) == "running"
    assert len(await engine.containers()) == 1
    engine.failing.clear()
    await engine.stop(NAME, 1)
    await engine.create(options(OTHER))


async def test_planned_faults_strike_before_or_after(engine: MemoryEngine) -> None:
    engine.fail_next("create", Conflict("as told"), times=2)
    for _ in range(2):
        with pytest.raises(Conflict, match="as told"):
            await engine.create(options(OTHER))
    engine.fail_next("create", target=OTHER, after=True)
    await engine.create(options(f"fluxthird_{APP}"))
    with pytest.raises(EngineError):
        await engine.create(options(OTHER))
    assert await state(engine, OTHER) == "created"
    with pytest.raises(Conflict):
        await engine.create(options(OTHER))


async def test_reading_can_fail_too(engine: MemoryEngine) -> None:
    for operation, call in (
        ("containers", engine.containers),
        ("images", engine.images),
        ("networks", engine.networks),
        ("info", engine.info),
        ("volumes", engine.volumes),
    ):
        engine.fail_next(operation)
        with pytest.raises(EngineError):
            await call()
        await call()


async def test_hanging_and_unreachable(engine: MemoryEngine, autojump_clock: trio.testing.MockClock) -> None:
    engine.hanging = True
    with trio.move_on_after(100) as scope:
        await engine.containers()
    assert scope.cancelled_caught
    engine.hanging = False
    async with engine.events() as events:
        engine.unreachable = True
        calls: list[Callable[[], Awaitable[object]]] = [
            engine.containers,
            lambda: engine.start(NAME),
            lambda: fetch(engine, STEADY),
        ]
        for call in calls:
            with pytest.raises(EngineUnreachable):
                await call()
        with trio.move_on_after(100) as scope:
            await anext(events)
        assert scope.cancelled_caught
        engine.crash(NAME)
        engine.unreachable = False
        assert await anext(events) == EngineEvent(lost=True, away_s=100.0)
        assert await state(engine) == "exited"


async def test_a_call_under_way_is_cut_when_the_engine_goes(
    engine: MemoryEngine, autojump_clock: trio.testing.MockClock
) -> None:
    engine.takes_s["stop"] = 5

    async def stop() -> None:
        with pytest.raises(EngineUnreachable):
            await engine.stop(NAME, 10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        await trio.sleep(1)
        engine.unreachable = True
    engine.unreachable = False
    assert await state(engine) == "running"


async def test_a_slow_stop_ends_as_a_kill(
    engine: MemoryEngine, autojump_clock: trio.testing.MockClock
) -> None:
    engine.takes_s["stop"] = 5
    start_s = trio.current_time()
    await engine.stop(NAME, 2)
    assert trio.current_time() - start_s == 2
    assert (await engine.inspect(NAME)).exit_code == 137
    await engine.start(NAME)
    await engine.stop(NAME, 10)
    assert (await engine.inspect(NAME)).exit_code == 0


async def test_crash_vanish_and_health_are_heard(engine: MemoryEngine) -> None:
    async with engine.events() as events:
        engine.set_health(NAME, "unhealthy")
        engine.crash(NAME, 9, oom=True)
        engine.vanish(NAME)
        heard = [await anext(events) for _ in range(5)]
    assert [event.action for event in heard] == ["health_status", "oom", "die", "disconnect", "destroy"]
    assert heard[0].attributes["health"] == "unhealthy"
    assert heard[2].exit_code == 9
    with pytest.raises(NotFound):
        await engine.inspect(NAME)


async def test_a_power_cut_stops_everything_and_tells_nobody(engine: MemoryEngine) -> None:
    async with engine.events() as events:
        engine.power_cut()
        assert (await anext(events)).lost
    looked = await engine.inspect(NAME)
    assert (looked.state, looked.exit_code, looked.pid) == ("exited", 255, 0)
    assert not (await engine.network(NETWORK)).endpoints
    await engine.start(NAME)
    assert await state(engine) == "running"


async def test_a_live_restart_keeps_containers(engine: MemoryEngine) -> None:
    engine.restart_engine(live=True)
    assert await state(engine) == "running"
    engine.restart_engine()
    assert await state(engine) == "exited"


async def test_a_full_disk(engine: MemoryEngine) -> None:
    engine.disk_full = True
    with pytest.raises(EngineError, match="no space left"):
        await fetch(engine, STEADY)
    with pytest.raises(EngineError, match="no space left"):
        await engine.create(options(OTHER))
    await engine.stop(NAME, 1)


async def test_containers_that_end_as_soon_as_they_run(engine: MemoryEngine) -> None:
    await engine.create(options(OTHER))
    engine.exits[OTHER] = 4
    for _ in range(3):
        await engine.start(OTHER)
        looked = await engine.inspect(OTHER)
        assert (looked.state, looked.exit_code) == ("exited", 4)
    assert set((await engine.network(NETWORK)).endpoints) == {NAME}


async def test_a_port_of_something_else_is_not_to_be_had(engine: MemoryEngine) -> None:
    await engine.create(options(OTHER, ports=((80, 31_000),)))
    engine.busy_ports.add(31_000)
    with pytest.raises(EngineError, match="31000/tcp is already allocated"):
        await engine.start(OTHER)
    engine.busy_ports.clear()
    await engine.start(OTHER)


async def test_private_images_need_their_login(engine: MemoryEngine) -> None:
    login = Credentials("someone", "secret-word")
    engine.registry["private/a:1"] = RegistryImage(credentials=login)
    for wrong in (None, Credentials("someone", "x")):
        with pytest.raises(NotFound) as caught:
            await fetch(engine, "private/a:1", wrong)
        assert "secret-word" not in repr(caught.value)
    await fetch(engine, "private/a:1", login)
    assert "secret-word" not in repr(engine.registry["private/a:1"])


async def test_a_tag_that_moved_is_fetched_anew(engine: MemoryEngine) -> None:
    first = await engine.image(STEADY)
    engine.registry[STEADY] = RegistryImage(digest="sha256:" + "cd" * 32)
    await fetch(engine, STEADY)
    second = await engine.image(STEADY)
    assert second.id != first.id
    assert (await engine.image(first.id)).tags == ()
    assert (await engine.inspect(NAME)).image_id == first.id
    with pytest.raises(Conflict):
        await engine.remove_image(first.id)
    await engine.remove_image(second.id)


async def test_who_reaches_whom(engine: MemoryEngine) -> None:
    await engine.create_network("fluxDockerNetwork_b", Subnet(8), "b")
    await engine.create(options(OTHER, network="fluxDockerNetwork_b"))
    await engine.start(OTHER)
    assert not engine.reaches(NAME, OTHER)
    await engine.connect(NAME, "fluxDockerNetwork_b")
    assert engine.reaches(NAME, OTHER)
    await engine.kill(OTHER)
    assert not engine.reaches(NAME, OTHER)


async def test_what_was_done_is_recorded_and_what_was_asked_is_counted(engine: MemoryEngine) -> None:
    await engine.containers()
    await engine.containers()
    await engine.stop(NAME, 1)
    await engine.remove(NAME)
    assert list(engine.actions) == [("stop", NAME), ("remove", NAME)]
    assert engine.calls["containers"] == 2
    assert engine.everything()["container"] == ()


async def test_nothing_grows_without_bound(engine: MemoryEngine) -> None:
    async with engine.events() as events:
        for _ in range(ACTIONS_KEPT // 2 + 10):
            await engine.kill(NAME)
            await engine.start(NAME)
        assert len(engine.actions) == ACTIONS_KEPT
        # Many more happened than fit: who listens is told, and hears of the last ones.
        assert (await anext(events)).lost
        heard = []
        with trio.move_on_after(1):
            async for event in events:
                heard.append(event)
                if len(heard) > QUEUE_EVENTS:
                    break
        assert 0 < len(heard) <= QUEUE_EVENTS
        assert not any(event.lost for event in heard)
    for number in range(LINES_KEPT + 10):
        engine.say(NAME, f"line {number}")
    async with engine.logs(NAME) as lines:
        kept = [line.text async for line in lines]
    assert (len(kept), kept[-1]) == (LINES_KEPT, f"line {LINES_KEPT + 9}")


async def test_commands_can_be_answered_by_the_test() -> None:
    made = MemoryEngine(
        registry={STEADY: RegistryImage()}, on_exec=lambda name, command: f"{name}: {command[0]}".encode()
    )
    await fetch(made, STEADY)
    await made.create(options(network="bridge"))
    await made.start(NAME)
    async with made.exec(NAME, ["ls"]) as output:
        assert b"".join([piece async for piece in output]) == f"{NAME}: ls".encode()


async def test_load_is_seen_in_the_samples(
    engine: MemoryEngine, autojump_clock: trio.testing.MockClock
) -> None:
    engine.set_load(NAME, 0.5)
    await trio.sleep(10)
    sample = await engine.stats(NAME)
    cpu, before = sample["cpu_stats"], sample["precpu_stats"]
    used = cpu["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    assert used == 0.5 * 250_000_000
    assert cpu["system_cpu_usage"] - before["system_cpu_usage"] == 8_000_000_000


@pytest.mark.parametrize(
    ("given", "short"),
    [
        ("shop", "shop:latest"),
        ("docker.io/library/shop:1", "shop:1"),
        ("docker.io/a/shop", "a/shop:latest"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
        ("a/b@sha256:1", "a/b@sha256:1"),
    ],
)
async def test_names_of_images(given: str, short: str) -> None:
    assert familiar(given) == short
    assert repository_of(short) in short
