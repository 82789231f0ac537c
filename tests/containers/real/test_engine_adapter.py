"""The Docker adapter on a real engine: cut off, frozen, killed, full of listeners, and idle."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from busyboximages import import_image
from dockerengine import DockerEngine as Daemon
from dockerengine import TestEngine
from engineapi import EngineApi
from engineworld import APP, STEADY, docker_world, options
from imageregistry import TestRegistry, start_registry

from trionode.containers.docker.engine import DockerEngine, open_docker
from trionode.containers.engine import Credentials, EngineError, EngineUnreachable

pytestmark = pytest.mark.trio

NAME = f"fluxweb_{APP}"
WITHIN_S = 240


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def drain(engine: DockerEngine, repotag: str, credentials: Credentials | None = None) -> None:
    async with engine.pull(repotag, credentials) as messages:
        async for _ in messages:
            pass


async def follow(engine: DockerEngine) -> None:
    async with engine.logs(NAME, follow=True) as lines:
        async for _ in lines:
            pass


async def watch(engine: DockerEngine) -> None:
    async with engine.stats_stream(NAME) as samples:
        async for _ in samples:
            pass


async def listen(
    engine: DockerEngine, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with engine.events() as events:
        task_status.started()
        async for _ in events:
            pass


async def sleep_inside(engine: DockerEngine) -> None:
    async with engine.exec(NAME, ["sleep", "1000"]) as output:
        async for _ in output:
            pass


async def test_whatever_is_cancelled_leaves_nothing_open(
    engine: TestEngine, image_registry: TestRegistry
) -> None:
    gc.collect()
    before = open_files()
    async with docker_world(engine, image_registry) as world, open_docker(engine.url) as adapter:
        await adapter.create(options(network="bridge"))
        await adapter.start(NAME)
        calls: list[Callable[[DockerEngine], Awaitable[object]]] = [
            follow,
            watch,
            listen,
            sleep_inside,
            lambda engine: drain(engine, world.offered),
            lambda engine: engine.containers(),
            lambda engine: engine.inspect(NAME),
            lambda engine: engine.stats(NAME),
        ]
        for number in range(60):
            with trio.move_on_after(0.001 * (number % 20)):
                await calls[number % len(calls)](adapter)
                await trio.sleep_forever()
        assert NAME in {row.name for row in await adapter.containers()}
        assert open_files() - before < 20
    # Anything unclosed would warn here, and warnings are errors.
    gc.collect()
    assert open_files() <= before + 1


async def test_a_frozen_engine_holds_nobody_longer_than_they_wait(own_engine: Daemon) -> None:
    async with open_docker(own_engine.at.url) as adapter:
        await adapter.containers()
        own_engine.pause()
        try:
            with trio.move_on_after(0.2) as scope:
                await adapter.containers()
            assert scope.cancelled_caught
        finally:
            own_engine.resume()
        with trio.fail_after(WITHIN_S):
            await adapter.containers()


async def test_an_engine_killed_and_started_again_is_heard_again(own_engine: Daemon) -> None:
    import_image(own_engine.api, STEADY)
    async with open_docker(own_engine.at.url) as adapter, adapter.events() as events:
        await adapter.create(options(network="bridge"))
        with trio.fail_after(WITHIN_S):
            while (await anext(events)).action != "create":
                pass
        await own_engine.kill_async()
        with pytest.raises(EngineUnreachable):
            await adapter.containers()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(own_engine.start_async)
            with trio.fail_after(WITHIN_S):
                assert (await anext(events)).lost
        await adapter.remove(NAME)
        with trio.fail_after(WITHIN_S):
            while (await anext(events)).action != "destroy":
                pass


async def test_a_call_under_way_when_the_engine_dies_is_unreachable(own_engine: Daemon) -> None:
    import_image(own_engine.api, STEADY)
    async with open_docker(own_engine.at.url) as adapter:
        await adapter.create(options(network="bridge"))
        await adapter.start(NAME)
        ended: list[type[Exception]] = []

        async def wait(call: Callable[[DockerEngine], Awaitable[object]]) -> None:
            try:
                await call(adapter)
            except EngineError as error:
                ended.append(type(error))

        async with trio.open_nursery() as nursery:
            for call in (follow, watch, sleep_inside):
                nursery.start_soon(wait, call)
            await trio.sleep(1)
            await own_engine.kill_async()
        assert ended == [EngineUnreachable] * 3


async def test_a_private_registry_needs_the_right_login(
    engine: TestEngine, engine_api: EngineApi, tmp_path: Path
) -> None:
    import_image(engine_api, "private/made:1")
    users = {"someone": "secret-word"}
    async with (
        start_registry(tmp_path, host="127.0.0.76", users=users) as registry,
        open_docker(engine.url) as adapter,
    ):
        repotag = registry.image("private/web:1")
        await trio.to_thread.run_sync(
            lambda: registry.push(engine_api, "private/made:1", "private/web:1", ("someone", "secret-word"))
        )
        for credentials in (None, Credentials("someone", "wrong-word")):
            with pytest.raises(EngineError) as caught:
                await drain(adapter, repotag, credentials)
            assert "wrong-word" not in caught.value.message
        await drain(adapter, repotag, Credentials("someone", "secret-word"))
        await adapter.remove_image(repotag)
        await adapter.remove_image("private/made:1")


async def test_health_checks_are_heard_without_their_commands(
    engine: TestEngine, image_registry: TestRegistry
) -> None:
    import_image(engine.api, "contract/checked:1", healthcheck="test -e /well")
    async with docker_world(engine, image_registry), open_docker(engine.url) as adapter:
        async with adapter.events() as events:
            await adapter.create(options(network="bridge", image="contract/checked:1"))
            await adapter.start(NAME)
            heard = []
            with trio.fail_after(WITHIN_S):
                async for event in events:
                    heard.append(event)
                    if event.action == "health_status" and event.attributes["health"] == "unhealthy":
                        break
                assert (await adapter.inspect(NAME)).health == "unhealthy"
                assert [row.is_unhealthy for row in await adapter.containers() if row.name == NAME] == [True]
                async with adapter.exec(NAME, ["touch", "/well"]) as output:
                    async for _ in output:
                        pass
                async for event in events:
                    heard.append(event)
                    if event.action == "health_status":
                        break
        assert heard[-1].attributes["health"] == "healthy"
        assert not {event.action for event in heard if event.action.startswith("exec")}


async def test_listening_costs_nothing_while_nothing_happens(own_engine: Daemon) -> None:
    async with open_docker(own_engine.at.url) as adapter, trio.open_nursery() as nursery:
        await nursery.start(listen, adapter)
        await trio.sleep(1)
        before_s = time.process_time()
        switches = voluntary_switches()
        await trio.sleep(5)
        # Neither a timer nor a poll: nearly no time, and hardly a wake-up.
        assert time.process_time() - before_s < 0.2
        assert voluntary_switches() - switches < 15
        nursery.cancel_scope.cancel()


async def test_trying_an_engine_that_is_away_costs_next_to_nothing(own_engine: Daemon) -> None:
    async with open_docker(own_engine.at.url) as adapter, trio.open_nursery() as nursery:
        await nursery.start(listen, adapter)
        await trio.sleep(1)
        await own_engine.halt_async()
        await trio.sleep(3)
        before_s = time.process_time()
        await trio.sleep(5)
        assert time.process_time() - before_s < 0.3
        nursery.cancel_scope.cancel()


def voluntary_switches() -> int:
    for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    raise AssertionError("the kernel does not count switches")
