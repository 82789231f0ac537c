"""Output, measures, commands and events: what every engine does the same (docs/spec/lifecycle.md §9, §13)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from engineworld import APP, NETWORK, World, options

from trionode.containers.engine import Conflict, EngineEvent, LogLine

pytestmark = pytest.mark.trio

NAME = f"fluxweb_{APP}"
WITHIN_S = 120
LINES = (
    LogLine("stdout", "one"),
    LogLine("stderr", "two: not so well"),
    LogLine("stdout", "three ümläut"),
)


async def run(world: World) -> None:
    await world.engine.create(options())
    await world.engine.start(NAME)
    await world.heeds(NAME)


async def until(events: AsyncIterator[EngineEvent], action: str) -> list[EngineEvent]:
    """The events up to the first with this action."""
    heard = []
    with trio.fail_after(WITHIN_S):
        async for event in events:
            heard.append(event)
            if event.action == action or (action == "lost" and event.lost):
                return heard
    raise AssertionError(f"the stream ended before {action}")


def actions(events: list[EngineEvent], kind: str = "container") -> list[str]:
    return [event.action for event in events if event.kind == kind]


async def test_logs(networked: World) -> None:
    engine = networked.engine
    await networked.writing(options(), LINES)
    async with engine.logs(NAME) as lines:
        assert tuple([line async for line in lines]) == LINES
    async with engine.logs(NAME, lines=1) as lines:
        assert [line.text async for line in lines] == ["three ümläut"]
    async with engine.logs(NAME, lines=5) as lines:
        assert len([line async for line in lines]) == 3
    async with engine.logs(NAME, lines=0) as lines:
        assert [line async for line in lines] == []
    async with engine.logs(NAME, timestamps=True) as lines:
        stamped = [line async for line in lines]
    assert [line.text for line in stamped] == [line.text for line in LINES]
    assert all("T" in line.at and line.at.endswith("Z") for line in stamped)
    assert [line.at for line in stamped] == sorted(line.at for line in stamped)
    async with engine.logs(NAME, since_s=4_000_000_000) as lines:
        assert [line async for line in lines] == []


async def test_logs_are_followed_until_the_end(networked: World) -> None:
    engine = networked.engine
    await networked.writing(options(), LINES)
    with trio.fail_after(WITHIN_S):
        async with engine.logs(NAME, lines=1, follow=True) as lines:
            assert (await anext(lines)).text == "three ümläut"
            await networked.write_more(NAME, "four")
            assert (await anext(lines)).text == "four"
            await networked.write_more(NAME, "five")
            assert (await anext(lines)).text == "five"
            await engine.kill(NAME)
            assert [line async for line in lines] == []
        async with engine.logs(NAME, follow=True) as lines:
            assert len([line async for line in lines]) == 5


async def test_logs_can_be_left_at_any_time(networked: World) -> None:
    engine = networked.engine
    await networked.writing(options(), LINES)
    async with engine.logs(NAME, lines=1, follow=True) as lines:
        await anext(lines)
        with trio.move_on_after(0.05) as waiting:
            await anext(lines)
        assert waiting.cancelled_caught
    assert (await engine.inspect(NAME)).state == "running"


async def test_stats(networked: World) -> None:
    engine = networked.engine
    await run(networked)
    sample = await engine.stats(NAME)
    assert sample["name"] == f"/{NAME}"
    assert sample["cpu_stats"]["cpu_usage"]["total_usage"] >= 0
    assert sample["cpu_stats"]["online_cpus"] > 0
    assert sample["cpu_stats"]["system_cpu_usage"] > sample["precpu_stats"]["system_cpu_usage"]
    assert 0 < sample["memory_stats"]["usage"] <= sample["memory_stats"]["limit"] == 32 << 20
    assert sample["networks"]["eth0"]["rx_bytes"] >= 0
    await engine.kill(NAME)
    assert not (await engine.stats(NAME))["memory_stats"]


async def test_stats_come_about_once_a_second(networked: World) -> None:
    await run(networked)
    with trio.fail_after(WITHIN_S):
        async with networked.engine.stats_stream(NAME) as samples:
            first, second = await anext(samples), await anext(samples)
    assert first["read"] < second["read"]


async def test_exec(networked: World) -> None:
    engine = networked.engine
    await engine.create(options(environment=("OWN=1",)))
    with pytest.raises(Conflict):
        async with engine.exec(NAME, ["echo", "hi"]):
            pass
    await engine.start(NAME)
    async with engine.exec(NAME, ["echo", "hi", "there"]) as output:
        assert b"".join([piece async for piece in output]) == b"hi there\n"
    async with engine.exec(NAME, ["env"], ["WORD=two"]) as output:
        said = b"".join([piece async for piece in output]).decode().splitlines()
    assert {"OWN=1", "WORD=two", "FROM_IMAGE=1"} <= set(said)
    async with engine.exec(NAME, ["true"]) as output:
        assert [piece async for piece in output] == []


async def test_top_and_changes(networked: World) -> None:
    engine = networked.engine
    await engine.create(options())
    with pytest.raises(Conflict):
        await engine.top(NAME)
    await engine.start(NAME)
    top = await engine.top(NAME)
    assert "PID" in top["Titles"]
    assert any("sleep" in " ".join(row) for row in top["Processes"])
    assert all({"Path", "Kind"} <= set(change) for change in await engine.changes(NAME))


async def test_events_of_a_life(networked: World) -> None:
    engine = networked.engine
    async with engine.events() as events:
        made = await engine.create(options())
        await engine.start(NAME)
        await networked.heeds(NAME)
        await engine.pause(NAME)
        await engine.unpause(NAME)
        await engine.stop(NAME, WITHIN_S)
        await engine.remove(NAME)
        heard = await until(events, "destroy")
    assert actions(heard) == ["create", "start", "pause", "unpause", "kill", "die", "stop", "destroy"]
    assert actions(heard, "network") == ["connect", "disconnect"]
    for event in heard:
        assert not event.lost
        assert event.at_ms > 1_600_000_000_000
        if event.kind == "container":
            assert event.name == NAME
            assert event.attributes["trionode.app"] == APP
        else:
            assert (event.name, event.attributes["container"]) == (NETWORK, made)
    assert [event.exit_code for event in heard if event.action == "die"] == [0]
    assert all(event.exit_code is None for event in heard if event.action != "die")


async def test_events_of_what_others_do(networked: World) -> None:
    engine = networked.engine
    async with engine.events() as events:
        await run(networked)
        await networked.vanish(NAME)
        heard = await until(events, "destroy")
        assert actions(heard)[-2:] == ["die", "destroy"]
        assert [event.exit_code for event in heard if event.action == "die"] == [137]
        await engine.remove_network(NETWORK)
        gone = (await until(events, "destroy"))[-1]
        assert (gone.kind, gone.name) == ("network", NETWORK)
        async with engine.pull(networked.offered) as messages:
            async for _ in messages:
                pass
        pulled = (await until(events, "pull"))[-1]
        assert (pulled.kind, pulled.name) == ("image", networked.offered)


async def test_events_begin_with_the_block(networked: World) -> None:
    engine = networked.engine
    await engine.create(options())
    async with engine.events() as events:
        await engine.remove(NAME)
        assert actions(await until(events, "destroy")) == ["destroy"]


async def test_every_listener_hears_everything(networked: World) -> None:
    engine = networked.engine
    async with engine.events() as one, engine.events() as two:
        await engine.create(options())
        assert actions(await until(one, "create")) == actions(await until(two, "create")) == ["create"]


async def test_a_listener_that_looks_away_for_a_moment_misses_nothing(networked: World) -> None:
    engine = networked.engine
    async with engine.events() as events:
        for _ in range(3):
            with trio.move_on_after(0.01):
                await anext(events)
        for number in range(20):
            await engine.create(options(f"fluxpart{number}_{APP}"))
            with trio.move_on_after(0):
                await anext(events)
                raise AssertionError("a deadline that is over was not heeded")
        await engine.create(options())
        heard: list[str] = []
        while NAME not in heard:
            heard += [event.name for event in await until(events, "create")]
    assert heard == [*[f"fluxpart{number}_{APP}" for number in range(20)], NAME]


async def test_a_restart_of_the_engine_is_survived(own_world: World) -> None:
    engine = own_world.engine
    await engine.create(options(network="bridge"))
    await engine.start(NAME)
    async with engine.events() as events:
        await own_world.restart()
        lost = (await until(events, "lost"))[-1]
        assert lost == EngineEvent(lost=True, away_s=lost.away_s)
        assert [row.state for row in await engine.containers() if row.name == NAME] == ["exited"]
        await engine.start(NAME)
        assert "start" in actions(await until(events, "start"))
