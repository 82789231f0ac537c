"""The client of image registries against Debian's registry, with what a real engine pushed to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from busyboximages import import_image
from engineapi import EngineApi
from imageregistry import TestRegistry, start_registry
from leaks import LeakWatch

from trionode.containers.engine import Credentials
from trionode.containers.images.http import open_image_registry
from trionode.containers.images.registry import ImageError, ImageFault

pytestmark = pytest.mark.trio

ANNA = Credentials("anna", "word of anna")


async def test_digest_size_and_architecture_are_those_of_the_engine(
    engine_api: EngineApi, image_registry: TestRegistry, nothing_left: LeakWatch
) -> None:
    old = image_registry.publish(engine_api, "owner/checked:v1", "1")
    name = image_registry.image("owner/checked:v1")
    async with open_image_registry(max_image_bytes=5_000_000_000, token_margin_s=900.0) as client:
        manifest = await client.verify(name, "amd64")
        assert (manifest.digest, manifest.architectures) == (old, ("amd64",))
        assert 100_000 < manifest.size_bytes < 2_000_000
        engine_api.pull(name)
        shown = engine_api.call("GET", f"/images/{name}/json")["RepoDigests"]
        assert shown == [f"{name.removesuffix(':v1')}@{old}"]
        new = image_registry.publish(engine_api, "owner/checked:v1", "2")
        assert await client.digest(name) == new != old
        with pytest.raises(ImageError) as caught:
            await client.verify(name, "arm64")
        assert caught.value.code == ImageFault.WRONG_ARCHITECTURE
        with pytest.raises(ImageError) as caught:
            await client.digest(image_registry.image("owner/checked:v9"))
        assert caught.value.code == ImageFault.MISSING
    engine_api.remove_image(name)


async def test_a_registry_with_users_and_its_end(engine_api: EngineApi, tmp_path: Path) -> None:
    async with open_image_registry(max_image_bytes=1_000, token_margin_s=900.0) as client:
        async with start_registry(tmp_path / "registry", users={ANNA.username: ANNA.password}) as registry:
            name = registry.image("owner/private:v1")
            digest = registry.push(
                engine_api, _image(engine_api), "owner/private:v1", (ANNA.username, ANNA.password)
            )
            for credentials in (None, Credentials("anna", "wrong")):
                with pytest.raises(ImageError) as caught:
                    await client.digest(name, credentials)
                assert caught.value.code == ImageFault.UNAUTHORIZED
            assert await client.digest(name, ANNA) == digest
            with pytest.raises(ImageError) as caught:
                await client.verify(name, "amd64", ANNA)
            assert caught.value.code == ImageFault.TOO_LARGE
        with pytest.raises(ImageError) as caught:
            await client.digest(name, ANNA)
        assert caught.value.code == ImageFault.UNREACHABLE


def _image(api: EngineApi) -> str:
    import_image(api, "kit/private:1")
    return "kit/private:1"
