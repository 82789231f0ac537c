"""A pull that is cut short at its very end leaves an image without a name (docs/spec/lifecycle.md §12)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from appworld import AppWorld, app, base, part

from trionode.containers.engine import Credentials, PullProgress

pytestmark = pytest.mark.trio


async def test_an_image_without_its_name_is_taken_away(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = AppWorld()
    life = await world.life()
    assert (await life.actions.install(base(), reason="the test")).ok
    before = await world.engine.images()
    fetched, pull = trio.Event(), world.engine.pull

    @asynccontextmanager
    async def to_its_digest(
        repotag: str, credentials: Credentials | None = None
    ) -> AsyncIterator[AsyncIterator[PullProgress]]:
        async with pull(repotag, credentials) as messages:
            async for _ in messages:
                pass
            # The engine notes the digest of an image first, then its tag.
            images = world.engine._images
            (image,) = (one for one in images.by_id.values() if repotag.removeprefix("library/") in one.tags)
            for tag in image.tags:
                del images._by_tag[tag]
            image.tags.clear()
            fetched.set()
            await trio.sleep_forever()
            yield messages

    monkeypatch.setattr(world.engine, "pull", to_its_digest)
    async with trio.open_nursery() as nursery:

        async def install() -> None:
            await life.actions.install(app("shop", part("db", ports=(31003,))), reason="the test")

        nursery.start_soon(install)
        await fetched.wait()
        assert len(await world.engine.images()) == len(before) + 1
        nursery.cancel_scope.cancel()
    assert await world.engine.images() == before
