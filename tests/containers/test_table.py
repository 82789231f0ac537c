"""The table of containers agrees with the engine, and knows what brought each of them to an end (§9, §13)."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trionode.containers.engine import ContainerRow, EngineEvent
from trionode.containers.memory.engine import MemoryEngine
from trionode.containers.memory.objects import RegistryImage
from trionode.containers.table import Change, ContainerTable, Ending
from trionode.plans.createoptions import CreateOptions
from trionode.plans.labels import OWNER

NAME = "fluxweb_shop"
IMAGE = "library/web:1"


def event(action: str, at_ms: int = 1000, **attributes: str) -> EngineEvent:
    marks = {OWNER: "shop", **attributes}
    return EngineEvent(kind="container", action=action, name=NAME, at_ms=at_ms, attributes=marks)


def running(at_ms: int = 500) -> ContainerTable:
    table = ContainerTable()
    for action in ("create", "start"):
        table.apply(event(action, at_ms), 0)
    return table


def row(state: str, name: str = NAME, container_id: str = "1") -> ContainerRow:
    return ContainerRow(id=container_id, name=name, image=IMAGE, image_id="i", state=state)


def endings(table: ContainerTable, *events: EngineEvent) -> list[Ending | None]:
    changes = [table.apply(one, 0) for one in events]
    return [change.ending for change in changes if change is not None]


def test_an_end_of_its_own_tells_how_long_it_ran() -> None:
    change = running(500).apply(event("die", 61_500), 0)
    assert change is not None
    assert (change.before, change.state, change.ending, change.ran_ms) == (
        "running",
        "exited",
        Ending.ITSELF,
        61_000,
    )
    assert change.app == "shop"


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([("kill", "15"), ("die", ""), ("stop", "")], [Ending.ASKED]),
        ([("kill", "9"), ("die", "")], [Ending.ASKED]),
        ([("kill", "1"), ("die", "")], [Ending.ITSELF]),  # a reload is no request to end
        ([("kill", "28"), ("die", ""), ("stop", "")], [Ending.ITSELF, Ending.ASKED]),  # its stop signal
        ([("oom", ""), ("die", "")], [Ending.ITSELF]),
        ([("kill", "15"), ("die", ""), ("stop", ""), ("start", ""), ("die", "")],
         [Ending.ASKED, None, Ending.ITSELF]),
    ],
)  # fmt: skip
def test_what_brought_it_to_an_end(actions: list[tuple[str, str]], expected: list[Ending | None]) -> None:
    events = [event(action, signal=signal) if signal else event(action) for action, signal in actions]
    assert endings(running(), *events) == expected


def test_a_stop_by_the_engine_going_down_is_the_engines() -> None:
    table = running()
    for one in (event("kill", 100_000, signal="15"), event("die", 100_100), event("stop", 100_200)):
        table.apply(one, 0)
    [change] = table.replace([row("exited")], 130_000, lost_ms=101_000)
    assert change.ending is Ending.ENGINE


def test_so_it_is_when_the_stream_broke_off_before_the_end_was_told() -> None:
    table = running()
    table.apply(event("kill", 100_000, signal="15"), 0)
    assert table.replace([row("running")], 101_500, lost_ms=101_000) == (), "it is about to end"
    [change] = table.replace([row("exited")], 130_000, lost_ms=101_000)
    assert change.ending is Ending.ENGINE


def test_a_stop_long_before_the_engine_went_down_is_somebodys() -> None:
    table = running()
    for one in (event("kill", 10_000, signal="15"), event("die", 10_100), event("stop", 10_200)):
        table.apply(one, 0)
    assert table.replace([row("exited")], 130_000, lost_ms=101_000) == ()
    assert endings(table, event("start"), event("die")) == [None, Ending.ITSELF]


def test_an_end_nobody_saw_is_the_engines() -> None:
    table = running()
    [change] = table.replace([row("exited")], 5_000)
    assert (change.state, change.ending) == ("exited", Ending.ENGINE)


def test_another_container_of_the_same_name_is_a_new_one() -> None:
    table = running()
    table.replace([row("running", container_id="1")], 2_000)
    table.apply(event("kill", 2_500, signal="15"), 0)
    table.apply(event("die", 2_600), 0)
    [change] = table.replace([row("created", container_id="2")], 3_000, lost_ms=3_000)
    assert (change.state, change.ending) == ("created", None)


def test_a_list_that_was_overtaken_by_events_does_not_undo_them() -> None:
    table = running()
    table.before_list()
    table.apply(event("die", 1_500), 0)
    assert table.replace([row("running"), row("running", "fluxother_x", "2")], 2_000) != ()
    assert table.states() == {NAME: "exited", "fluxother_x": "running"}
    table.before_list()
    table.apply(event("destroy", 2_500), 0)
    table.replace([row("exited")], 3_000)
    assert table.states() == {}, "and nothing comes back from the dead"
    table.before_list()
    table.apply(event("create", 3_500), 0)
    table.replace([], 4_000)
    assert table.states() == {NAME: "created"}


def test_gone_and_renamed_are_missing_under_the_old_name() -> None:
    table = running()
    assert table.apply(event("destroy"), 0) == Change(
        container=NAME, app="shop", before="running", state=None, at_ms=1000
    )
    table = running()
    renamed = EngineEvent(
        kind="container", action="rename", name="other", attributes={"oldName": f"/{NAME}"}, at_ms=7
    )
    change = table.apply(renamed, 0)
    assert change is not None
    assert (change.container, change.state) == (NAME, None)
    assert table.states() == {"other": "running"}


def test_unhealthy_until_it_is_started_again() -> None:
    table = running()
    change = table.apply(event("health_status", health="unhealthy"), 0)
    assert change is not None
    assert change.unhealthy
    assert table.unhealthy() == {NAME}
    table.apply(event("die"), 0)
    assert table.unhealthy() == frozenset()
    table.apply(event("start"), 0)
    assert table.unhealthy() == frozenset()


def test_events_of_other_kinds_and_of_strangers_change_nothing() -> None:
    table = ContainerTable()
    assert table.apply(EngineEvent(kind="network", action="create", name="n"), 0) is None
    assert table.apply(event("health_status", health="unhealthy"), 0) is None
    assert table.apply(event("exec_create"), 0) is None
    assert len(table) == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["create", "start", "stop", "kill", "crash", "vanish", "pause", "unpause", "restart"]
        ),
        st.sampled_from(["fluxa_x", "fluxb_x", "operator"]),
    ),
    max_size=25,
)


@given(STEPS)
def test_after_any_events_it_says_what_the_engine_would_list(steps: list[tuple[str, str]]) -> None:
    async def scene() -> None:
        engine = MemoryEngine(registry={IMAGE: RegistryImage()})
        async with engine.pull(IMAGE) as progress:
            async for _ in progress:
                pass
        table = ContainerTable()
        async with engine.events() as events:
            for step, name in steps:
                await take(engine, step, name)
                await trio.testing.wait_all_tasks_blocked()
                with trio.move_on_after(1):
                    while True:
                        told = await anext(events)
                        if told.lost:
                            table.replace(await engine.containers(), 0)
                        else:
                            table.apply(told, 0)
                assert table.states() == {found.name: found.state for found in await engine.containers()}

    trio.run(scene, clock=MockClock(autojump_threshold=0))


async def take(engine: MemoryEngine, step: str, name: str) -> None:
    states = {found.name: found.state for found in await engine.containers()}
    alive = states.get(name) in {"running", "paused"}
    match step:
        case "create" if name not in states:
            await engine.create(
                CreateOptions(
                    name=name, app="x", identifier=name, image=IMAGE, hostname="h", network="default"
                )
            )
        case "start" if name in states and states[name] != "paused":
            await engine.start(name)
        case "stop" | "kill" if name in states:
            await (engine.stop(name, 1) if step == "stop" else engine.kill(name))
        case "crash" if alive:
            engine.crash(name)
        case "vanish" if name in states:
            engine.vanish(name)
        case "pause" if states.get(name) == "running":
            await engine.pause(name)
        case "unpause" if states.get(name) == "paused":
            await engine.unpause(name)
        case "restart":
            engine.restart_engine()
