"""The engine as the rest of the node sees it: what runs is announced, an absent engine is waited for."""

from __future__ import annotations

import pytest
import trio
from appworld import app, base, part
from hostworld import HostWorld, Node
from trio.testing import MockClock

from trionode.containers.host import ENGINE_AWAY, ENGINE_BACK
from trionode.errors import HostError
from trionode.hosting.port import APP_REMOVED, APPS_CHANGED

CORE = "fluxcore_base"


@pytest.fixture
def world() -> HostWorld:
    return HostWorld()


def announced(node: Node) -> list[str] | None:
    apps = node.host.apps()
    return None if apps is None else [found.name for found in apps]


async def install(node: Node, spec: dict[str, object]) -> None:
    outcome = await node.life.actions.install(spec, reason="the test")
    assert outcome.ok, outcome.problem


@pytest.mark.trio
async def test_one_list_call_then_events(autojump_clock: MockClock, world: HostWorld) -> None:
    async with world.process(settled=False) as node:
        assert announced(node) == []
        await install(node, base())
        await trio.sleep(1)
        before = world.engine.calls["containers"]
        assert announced(node) == ["base"]
        world.engine.crash(CORE)
        await trio.sleep(0.1)
        assert announced(node) == []
        await world.engine.start(CORE)
        await trio.sleep(0.1)
        assert announced(node) == ["base"]
        assert world.engine.calls["containers"] == before
        assert node.told(APPS_CHANGED)[-1] == {"names": ["base"]}
        assert node.told(APP_REMOVED) == []


@pytest.mark.trio
async def test_removed_is_told_when_it_is_over_and_once(autojump_clock: MockClock, world: HostWorld) -> None:
    async with world.process() as node:
        await install(node, base())
        await node.host.remove("base", reason="the test")
        assert node.told(APP_REMOVED) == [{"name": "base"}]
        assert node.host.names() == frozenset()
        await node.host.remove("base", reason="again")
        assert node.told(APP_REMOVED) == [{"name": "base"}]


@pytest.mark.trio
async def test_an_app_that_is_redeployed_has_not_been_removed(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        outcome = await node.life.actions.redeploy("base", hard=True, reason="the test")
        assert outcome.ok
        await trio.sleep(1)
        assert node.told(APP_REMOVED) == []
        assert announced(node) == ["base"]


@pytest.mark.trio
async def test_a_removal_that_fails_is_an_error(autojump_clock: MockClock, world: HostWorld) -> None:
    async with world.process() as node:
        await install(node, base())
        world.store.failing.add("delete")
        with pytest.raises(HostError, match="base"):
            await node.host.remove("base", reason="the test")


@pytest.mark.trio
async def test_an_engine_that_is_away_at_the_start_is_waited_for(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
    world.engine.hub.away = True
    async with world.process() as node:
        assert announced(node) is None, "nothing is known, so nothing is announced"
        assert "does not answer" in node.host.problem
        assert len(node.told(ENGINE_AWAY)) == 1
        await trio.sleep(100)
        world.engine.hub.away = False
        await trio.sleep(6)
        assert announced(node) == ["base"]
        assert node.host.problem == ""
        assert len(node.told(ENGINE_AWAY)) == 1
        assert len(node.told(ENGINE_BACK)) == 1


@pytest.mark.trio
async def test_apps_of_an_engine_that_stays_away_are_no_longer_announced_nor_removed(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        world.engine.hub.away = True
        await trio.sleep(200)
        assert announced(node) == ["base"], "it may still run it all"
        await trio.sleep(400)
        assert announced(node) is None
        assert node.host.names() == {"base"}
        assert node.told(APP_REMOVED) == []


@pytest.mark.trio
async def test_an_engine_that_hangs_is_away(autojump_clock: MockClock, world: HostWorld) -> None:
    async with world.process() as node:
        world.engine.hanging = True
        await trio.sleep(200)
        assert "within 60 s" in node.host.problem
        assert not node.reachable.is_open


@pytest.mark.trio
async def test_missed_events_are_made_up_for_by_the_sweep(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process(settled=False) as node:
        await install(node, base())
        await trio.sleep(1)
        world.engine._containers[CORE].state = "exited"  # and no event of it
        await trio.sleep(61)
        assert announced(node) == []


@pytest.mark.trio
async def test_running_since_is_what_the_network_was_told(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        await trio.sleep(1)
        first = node.host.apps()
        await trio.sleep(100)
        assert node.host.apps() == first, "it does not move on its own"
        world.since_ms["base"] = 1_700_000_000_000
        world.engine.crash(CORE)
        await trio.sleep(2)
        assert [found.running_since_ms for found in node.host.apps() or ()] == [1_700_000_000_000]


@pytest.mark.trio
async def test_an_app_that_cannot_be_opened_is_judged_by_its_containers(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    secret = app("secret", part("web"), enterprise="ciphertext")
    world.opener.inside["secret"] = {"compose": secret["compose"]}
    async with world.process() as node:
        await install(node, secret)
    world.opener.inside.clear()
    async with world.process() as node:
        assert node.host.installed()[0].components == ()
        assert announced(node) == ["secret"]
        await world.engine.kill("fluxweb_secret")
        await trio.sleep(1)
        assert announced(node) == []


@pytest.mark.trio
async def test_an_app_that_cannot_be_opened_and_has_no_container_does_not_run(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    """D-25: what does not exist is not announced, whatever may be unknown about it."""
    secret = app("secret", part("web"), enterprise="ciphertext")
    world.opener.inside["secret"] = {"compose": secret["compose"]}
    async with world.process() as node:
        await install(node, secret)
    world.opener.inside.clear()
    world.engine.vanish("fluxweb_secret")
    async with world.process() as node:
        await trio.sleep(1)
        assert node.host.installed()[0].components == ()
        assert announced(node) == []


@pytest.mark.trio
async def test_a_volume_is_mounted_before_its_container_starts(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        await world.engine.stop(CORE, 5)
        world.disk.lose_mount(CORE)
        await node.host.start("core_base")
        assert world.disk.held[CORE].is_mounted
        assert world.state(CORE) == "running"
