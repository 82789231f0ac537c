"""Apps that share a network reach each other, and connecting again changes nothing (lifecycle.md §14)."""

from __future__ import annotations

import pytest
import trio
from appworld import app, base, part
from hostworld import HostWorld, Node
from trio.testing import MockClock

from trionode.containers.engine import EngineError
from trionode.plans.networks import Subnet
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


BASE_NETWORK, GUEST = "fluxDockerNetwork_base", "fluxdb_guest"
OTHER_SUBNET = Subnet(77)


def guest(data: str = "/data") -> dict[str, object]:
    return app("guest", part("db", containerData=data), description="networkWith: [base]")


@pytest.mark.trio
async def test_an_app_outlives_the_app_it_was_linked_to(autojump_clock: MockClock, world: HostWorld) -> None:
    """Stopped while the other one went: its network cannot be found, and it is none of its fault."""
    async with world.process() as node:
        await install(node, base())
        await install(node, guest())
        world.engine.power_cut()
        outcome = await node.life.actions.remove("base", reason="the network lists it no longer", force=True)
        assert outcome.ok
        await trio.sleep(2 * 3600)
        assert world.state(GUEST) == "running"
        assert GUEST in world.disk.held
        assert [app for app, _, _ in world.news.removals] == ["base"]
        # and back: linked again
        await install(node, base())
        assert world.engine.reaches(GUEST, CORE)


@pytest.mark.trio
@pytest.mark.parametrize("data", ["/data", "g:/data"])
async def test_a_network_made_anew_while_an_app_is_stopped(
    autojump_clock: MockClock, world: HostWorld, data: str
) -> None:
    async with world.process() as node:
        await install(node, base())
        await install(node, guest(data))
        await world.engine.start(GUEST)
        await world.engine.stop(GUEST, 0)
        for container in (CORE, GUEST):
            await world.engine.stop(container, 0)
        await world.engine.remove_network(BASE_NETWORK)
        await world.engine.create_network(BASE_NETWORK, OTHER_SUBNET, "base")
        await node.host.start("db_guest")
        assert world.state(GUEST) == "running"
        assert set((await world.engine.network(BASE_NETWORK)).endpoints) == {GUEST}


@pytest.mark.trio
async def test_a_reverse_link_reaches_who_is_stopped(autojump_clock: MockClock, world: HostWorld) -> None:
    """The network it knows is another one than that of the same name: it is not connected."""
    async with world.process() as node:
        await install(node, base())
        await install(node, guest("g:/data"))
        await world.engine.start(GUEST)
        await world.engine.stop(GUEST, 0)
        assert (await node.life.actions.remove("base", reason="the test")).ok
        await install(node, base())
        await world.engine.start(GUEST)
        assert world.engine.reaches(GUEST, CORE)


@pytest.mark.trio
async def test_without_its_own_network_it_is_made_again_with_its_volume(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    """Somebody cleared networks nothing that runs was attached to."""
    async with world.process() as node:
        await install(node, base())
        volumes = dict(world.disk.held)
        await world.engine.stop(CORE, 0)
        await world.engine.remove_network(BASE_NETWORK)
        with pytest.raises(EngineError):
            await node.host.start("core_base")
        await trio.sleep(600)
        assert world.state(CORE) == "running"
        assert set((await world.engine.network(BASE_NETWORK)).endpoints) == {CORE}
        assert set(world.disk.held) == set(volumes)
        assert world.news.removals == []


@pytest.mark.trio
async def test_a_start_that_fails_for_other_reasons_changes_no_network(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        await install(node, guest())
        await world.engine.stop(GUEST, 0)
        world.engine.failing.add(("start", GUEST))
        with pytest.raises(EngineError):
            await node.host.start("db_guest")
        assert set((await world.engine.inspect(GUEST)).addresses) == {"fluxDockerNetwork_guest", BASE_NETWORK}
        assert node.counters["containers.linking.repaired"] == 0
