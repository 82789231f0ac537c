"""Apps that share a network reach each other, and connecting again changes nothing (lifecycle.md §14)."""

from __future__ import annotations

import pytest
from appworld import app, base, part
from hostworld import HostWorld, Node
from trio.testing import MockClock

from trionode.plans.redeploy import Depth, UpdatePlan

CORE, WEB = "fluxcore_base", "fluxweb_shop"


def shop() -> dict[str, object]:
    return app("shop", part("web"), part("db"), description="networkWith: [base]")


async def install(node: Node, spec: dict[str, object]) -> None:
    outcome = await node.life.actions.install(spec, reason="the test")
    assert outcome.ok, outcome.problem


def connects(world: HostWorld) -> int:
    return sum(action[0] == "connect" for action in world.engine.actions)


@pytest.fixture
def world() -> HostWorld:
    return HostWorld()


@pytest.mark.trio
async def test_forward_when_made_and_reverse_when_back(autojump_clock: MockClock, world: HostWorld) -> None:
    async with world.process() as node:
        await install(node, base())
        await install(node, shop())
        assert world.engine.reaches(WEB, CORE)
        outcome = await node.life.actions.redeploy("base", hard=True, reason="the test")
        assert outcome.ok
        assert world.engine.reaches(WEB, CORE), "its network is another one now"
        assert world.engine.reaches("fluxdb_shop", CORE)


@pytest.mark.trio
async def test_the_sweep_connects_what_is_not_and_nothing_twice(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        await install(node, shop())
        await world.engine.disconnect(WEB, "fluxDockerNetwork_base")
        [planned] = await node.host._links.planned()  # type: ignore[attr-defined]
        assert planned.container == WEB
        before = connects(world)
        await node.host.link()
        assert world.engine.reaches(WEB, CORE)
        assert connects(world) == before + 1
        await node.host.link()
        assert connects(world) == before + 1


@pytest.mark.trio
async def test_one_connection_that_fails_does_not_end_the_sweep(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        await install(node, shop())
        for container in (WEB, "fluxdb_shop"):
            await world.engine.disconnect(container, "fluxDockerNetwork_base")
        world.engine.failing.add(("connect", WEB))
        await node.host.link()
        assert world.engine.reaches("fluxdb_shop", CORE)
        assert not world.engine.reaches(WEB, CORE)
        assert node.counters["containers.linking.failed"] == 1


STRANGER = app("strange", part("web"), owner="1SomebodyElse")


@pytest.mark.trio
@pytest.mark.parametrize("owner", ["1SomebodyElse", None])
async def test_a_new_description_lets_nobody_into_the_network_of_another_owner(
    autojump_clock: MockClock, world: HostWorld, owner: str | None
) -> None:
    """The row alone changes, so no gate of an install is passed."""
    spec = {**STRANGER, "owner": owner or base()["owner"]}
    async with world.process() as node:
        await install(node, base())
        await install(node, spec)
        changed = {**spec, "description": "networkWith: [base]"}
        plan = UpdatePlan(Depth.ROW, "its description changed", links_changed=True)
        actions = node.life.actions
        assert (await actions.update(changed, plan, reason="the test")).ok
        await node.host.link()
        await node.life.bench.links.reverse("base")
        assert world.engine.reaches("fluxweb_strange", CORE) is (owner is None)
        if owner is not None:
            assert await node.host._links.planned() == ()  # type: ignore[attr-defined]
            world.engine.vanish("fluxweb_strange")
            made = await actions.recreate("strange", "web_strange", keeps_volume=True, start=True)
            assert made.step == "links web_strange"
            assert not made.ok
