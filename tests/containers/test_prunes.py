"""Only leftovers are pruned: a waiting container of an encrypted app stays, whatever can be opened (§12)."""

from __future__ import annotations

import pytest
import trio
from appworld import app, base, part
from hostworld import HostWorld, Node
from trio.testing import MockClock

from trionode.containers.health.prunes import Pruner
from trionode.containers.memory.objects import RegistryImage
from trionode.containers.operations import Work
from trionode.plans.createoptions import CreateOptions
from trionode.plans.networks import Subnet

WAITING = "fluxdb_secret"


async def install(node: Node, spec: dict[str, object]) -> None:
    outcome = await node.life.actions.install(spec, reason="the test")
    assert outcome.ok, outcome.problem


def pruner(world: HostWorld, node: Node) -> Pruner:
    return Pruner(world.engine, node.life.installed, node.life.records, node.life.operations, node.counters)


@pytest.fixture
def world() -> HostWorld:
    return HostWorld()


@pytest.mark.trio
async def test_the_stopped_elected_container_of_an_encrypted_app_survives_every_prune(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    """The incident: its stored specification names no components, and its container stands still."""
    secret = app("secret", part("db", containerData="g:/data"), enterprise="ciphertext")
    world.opener.inside["secret"] = {"compose": secret["compose"]}
    async with world.process() as node:
        await install(node, base())
        await install(node, secret)
        await world.engine.kill(WAITING)
    world.opener.inside.clear()
    async with world.process() as node:
        assert node.life.installed.parts("secret") == (), "it cannot be opened any more"
        before = world.engine.everything()
        await pruner(world, node).prune()
        await install(node, app("other", part("web")))
        await node.life.actions.remove("other", reason="the test")
        assert world.engine.everything() == before
        assert world.state(WAITING) in {"created", "exited"}


@pytest.mark.trio
async def test_leftovers_go_and_what_is_not_ours_stays(autojump_clock: MockClock, world: HostWorld) -> None:
    async with world.process() as node:
        await install(node, base())
        engine = world.engine
        await engine.create_network("fluxDockerNetwork_gone", Subnet(77), "gone")
        await engine.create(options("fluxweb_gone", app_name="gone", network="fluxDockerNetwork_gone"))
        engine._containers["fluxweb_gone"].networks.clear()
        operators = options("operators", app_name="x")
        await engine.create(operators)
        engine._containers["operators"].labels = {}
        await pruner(world, node).prune()
        left = engine.everything()
        assert set(left["container"]) == {"fluxcore_base", "operators"}
        assert "fluxDockerNetwork_gone" not in left["network"]
        assert "fluxDockerNetwork_base" in left["network"]
        assert node.counters["containers.prune.container"] == 1


@pytest.mark.trio
async def test_nothing_is_pruned_while_another_operation_runs(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        await world.engine.create(options("fluxweb_gone", app_name="gone"))
        with node.life.operations.doing(Work.INSTALL, "shop"):
            await pruner(world, node).prune("else")
            assert world.state("fluxweb_gone") == "created"
            await pruner(world, node).prune("shop")
            assert world.state("fluxweb_gone") is None, "its own operation is no reason to wait"


@pytest.mark.trio
async def test_what_cannot_be_removed_is_left_and_the_rest_goes(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    async with world.process() as node:
        await install(node, base())
        for name in ("fluxa_gone", "fluxb_gone"):
            await world.engine.create(options(name, app_name="gone"))
        world.engine.failing.add(("remove", "fluxa_gone"))
        await pruner(world, node).prune()
        assert world.state("fluxa_gone") == "created"
        assert world.state("fluxb_gone") is None
        assert node.counters["containers.prune.failed"] == 1


@pytest.mark.trio
async def test_an_image_of_an_installed_app_stays_though_its_container_is_missing(
    autojump_clock: MockClock, world: HostWorld
) -> None:
    world.engine.registry["library/web:1"] = RegistryImage()
    async with world.process(settled=False) as node:
        await install(node, base())
        world.engine.vanish("fluxcore_base")
        await trio.sleep(1)
        await pruner(world, node).prune()
        assert "web:1" in world.engine.everything()["image"]
        await node.life.installed.delete("base")
        await pruner(world, node).prune()
        assert "web:1" not in world.engine.everything()["image"], "its record alone keeps nothing"


def options(name: str, *, app_name: str, network: str = "default") -> CreateOptions:
    return CreateOptions(
        name=name, app=app_name, identifier=name, image="library/web:1", hostname="h", network=network
    )
