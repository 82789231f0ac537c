"""Images and the engine itself: what every engine does the same (docs/spec/lifecycle.md §12, §13)."""

from __future__ import annotations

import pytest
from engineworld import APP, NETWORK, STEADY, World, options

from trionode.containers.engine import Conflict, EngineError, NotFound, PullProgress
from trionode.plans.networks import Subnet

pytestmark = pytest.mark.trio

NAME = f"fluxweb_{APP}"


async def pull(world: World, repotag: str) -> list[PullProgress]:
    async with world.engine.pull(repotag) as messages:
        return [message async for message in messages]


async def test_the_engine_says_what_it_is(world: World) -> None:
    info = await world.engine.info()
    assert info.architecture in ("amd64", "arm64")
    assert info.cpus > 0
    assert info.memory_bytes > 1 << 30
    assert tuple(map(int, info.api_version.split("."))) >= (1, 41)
    assert info.version
    assert info.root.startswith("/")
    assert not info.disk_quota


async def test_a_local_image_is_found_by_tag_and_by_id(world: World) -> None:
    image = await world.engine.image(STEADY)
    assert image.tags == (STEADY,)
    assert image.id.startswith("sha256:")
    assert image.size_bytes > 1000
    assert image.architecture in ("amd64", "arm64")
    assert (await world.engine.image(image.id)).tags == image.tags
    assert image.id in {one.id for one in await world.engine.images()}
    with pytest.raises(NotFound):
        await world.engine.image("contract/nowhere:1")


async def test_pull_tells_its_progress_and_leaves_the_image(world: World) -> None:
    with pytest.raises(NotFound):
        await world.engine.image(world.offered)
    told = await pull(world, world.offered)
    assert "Pulling from" in told[0].status
    assert {message.layer for message in told if message.status == "Pull complete"}
    assert any(message.total_bytes for message in told if message.layer)
    assert told[-1].status.startswith("Status: Downloaded newer image")
    image = await world.engine.image(world.offered)
    (digest,) = image.digests
    assert digest.startswith(f"{world.offered.rpartition(':')[0]}@sha256:")
    assert f"Digest: {digest.rpartition('@')[2]}" in {message.status for message in told}
    again = await pull(world, world.offered)
    assert again[-1].status.startswith("Status: Image is up to date")


async def test_pull_by_digest(world: World) -> None:
    await pull(world, world.offered)
    (digest,) = (await world.engine.image(world.offered)).digests
    assert (await world.engine.image(digest)).tags == (world.offered,)


async def test_an_image_nobody_has_cannot_be_pulled(world: World) -> None:
    with pytest.raises(EngineError):
        await pull(world, world.offered.replace("offered", "nowhere"))


async def test_an_image_in_use_stays(world: World) -> None:
    engine = world.engine
    await pull(world, world.offered)
    await engine.create(options(image=world.offered))
    with pytest.raises(Conflict):
        await engine.remove_image(world.offered)
    await engine.remove(NAME)
    await engine.remove_image(world.offered)
    with pytest.raises(NotFound):
        await engine.image(world.offered)
    with pytest.raises(NotFound):
        await engine.remove_image(world.offered)


async def test_what_is_there_before_is_there_after(world: World) -> None:
    async def everything() -> list[set[str]]:
        engine = world.engine
        return [
            {row.id for row in await engine.containers()},
            {one.id for one in await engine.networks()},
            {one.name for one in await engine.volumes()},
        ]

    before = await everything()
    await world.engine.create_network(NETWORK, Subnet(231), APP)
    await world.engine.create(options())
    await world.engine.start(NAME)
    assert await everything() != before
    await world.engine.remove(NAME, force=True, volumes=True)
    await world.engine.remove_network(NETWORK)
    assert await everything() == before
