"""What an engine says of a start that failed, without the secrets of the container, wherever it ends up."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from appworld import SECRET, app, base, part
from hostworld import HostWorld
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trionode.containers.disk import DiskError, FirewallError
from trionode.containers.engine import Conflict, EngineError, EngineFull, EngineUnreachable
from trionode.containers.hiding import given_to, hide
from trionode.containers.images.registry import ImageError, ImageFault
from trionode.containers.install.troubles import StorageAway, StorageError, told_to_all
from trionode.errors import StoreError
from trionode.plans.problem import PlanError, WrongAnswer

DB = "fluxdb_keeps"
WORD = f"--token={SECRET}"
KEEPS = app("keeps", part("db", commands=["F_S_CMD=https://storage.test/cmd"]))


def told(quoted: str = f'"{WORD}"') -> EngineError:
    return EngineError(
        f"cannot start {DB}: OCI runtime create failed: exec: {quoted}: executable file not found in $PATH",
        status=400,
    )


@pytest.mark.trio
@pytest.mark.parametrize("quoted", [f'"{WORD}"', WORD, f'\\"{WORD}\\"', f"stat {SECRET}"])
async def test_a_start_that_fails_tells_nobody_what_the_container_was_given(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, quoted: str
) -> None:
    world = HostWorld()
    world.storage.answer = [WORD]
    async with world.process() as node:
        world.engine.fail_next("start", told(quoted), target=DB)
        refused = await node.life.actions.install(KEEPS, reason="the test")
        assert "executable file not found" in refused.problem, "the reason is told"
        assert (await node.life.actions.install(KEEPS, reason="the test")).ok
        world.engine.failing.add(("start", DB))
        for _ in range(9):
            world.engine.fail_next("start", told(quoted), target=DB)
        with pytest.raises(EngineError) as caught:
            await node.host.start("db_keeps")
        world.engine.failing.clear()
        world.engine.vanish(DB)
        await trio.sleep(2 * 3600)
        assert world.news.removals, "that was more than it may fail"
        everything = [
            refused.problem,
            caught.value.message,
            world.news.errors,
            world.news.removals,
            [event.reason for event in node.tampering.events()],
            [event.data for event in node.bus.replay()],
            caplog.text,
        ]
    assert SECRET not in repr(everything)


@pytest.mark.trio
async def test_an_engine_that_does_not_say_what_it_was_given_is_not_quoted(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(KEEPS, reason="the test")).ok
        world.engine.fail_next("start", told(), target=DB)
        world.engine.fail_next("inspect", target=DB)
        with pytest.raises(EngineError) as caught:
            await node.host.start("db_keeps")
    assert caught.value.message == f"the engine cannot start {DB}"
    assert caught.value.status == 400


@pytest.mark.trio
async def test_the_network_is_told_where_and_of_what_kind(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node:
        world.engine.fail_next("start", told(), target=DB)
        assert not (await node.life.actions.install(KEEPS, reason="the test")).ok
    ((_, _, text),) = world.news.errors
    assert text == "start db_keeps: the container engine refused"


@pytest.mark.parametrize(
    "error",
    [
        EngineError(SECRET),
        Conflict(SECRET),
        EngineFull(SECRET),
        EngineUnreachable(SECRET),
        DiskError(SECRET),
        FirewallError(SECRET),
        StoreError(SECRET),
        StorageError(SECRET),
        StorageAway(SECRET),
        WrongAnswer(SECRET),
        *(ImageError(fault, SECRET) for fault in ImageFault),
    ],
)
def test_no_words_of_others_are_told_to_the_network(error: Any) -> None:
    said = told_to_all(error, "start db_keeps")
    assert SECRET not in said
    assert said.startswith("start db_keeps: ")


def test_what_is_wrong_with_a_specification_is_told() -> None:
    assert (
        told_to_all(PlanError("It links to nobody."), "links db_keeps")
        == "links db_keeps: It links to nobody."
    )


def test_what_everybody_knows_is_not_hidden() -> None:
    entries = ["FLUX_APP_NAME=keeps", "FLUX_NODE_HOST_IP=198.51.100.7", "A=1"]
    assert (
        hide("cannot start fluxdb_keeps of 198.51.100.7", entries)
        == "cannot start fluxdb_keeps of 198.51.100.7"
    )


def test_what_a_container_was_given_is_all_that_its_document_quotes() -> None:
    document = {
        "Args": ["a"],
        "Config": {"Env": ["B=b"], "Cmd": None, "Entrypoint": "c", "Healthcheck": {"Test": ["CMD", "d"]}},
    }
    assert set(given_to(document)) == {"a", "B=b", "c", "CMD", "d"}
    assert given_to({}) == ()
    assert given_to({"Config": None}) == ()


@given(st.text(min_size=4), st.sampled_from(["raw", "quoted", "ascii"]))
def test_a_secret_is_found_however_it_is_quoted(secret: str, how: str) -> None:
    shown = secret if how == "raw" else json.dumps(secret, ensure_ascii=how == "ascii")
    said = hide(f"exec: {shown}: not found", [f"TOKEN={secret}"])
    assert secret not in said or secret in "exec: ***: not found"


@pytest.mark.trio
async def test_the_words_of_others_about_the_app_stay(autojump_clock: MockClock) -> None:
    world = HostWorld()
    async with world.process() as node:
        assert (await node.life.actions.install(base(), reason="the test")).ok
        taken = EngineError("cannot start fluxcore_base: port is already allocated")
        world.engine.fail_next("start", taken, target="fluxcore_base")
        with pytest.raises(EngineError, match="fluxcore_base: port is already allocated"):
            await node.host.start("core_base")
