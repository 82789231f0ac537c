"""The registry of the kit takes what an engine pushes, gives it back, and asks for a login when told to."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from busyboximages import import_image
from engineapi import EngineAnswerError, EngineApi
from enginefixtures import *  # noqa: F403 - fixtures are found by name
from imageregistry import start_registry
from leaks import LeakWatch

pytestmark = [pytest.mark.process, pytest.mark.trio]

IMAGE = "kit/pushed:1"


@pytest.fixture
def image(engine_api: EngineApi) -> str:
    import_image(engine_api, IMAGE)
    return IMAGE


async def test_what_is_pushed_can_be_pulled(
    engine_api: EngineApi, nothing_left: LeakWatch, image: str, tmp_path: Path
) -> None:
    async with start_registry(tmp_path / "registry") as registry:
        digest = registry.push(engine_api, image, "owner/app:v1")
        name = registry.image("owner/app:v1")
        lines = engine_api.pull(name)
        assert {line["status"] for line in lines} >= {f"Digest: {digest}"}
        engine_api.remove_image(name)
        newer = registry.publish(engine_api, "owner/app:v1", "2")
        assert newer != digest
        with pytest.raises(EngineAnswerError, match="manifest unknown"):
            engine_api.pull(registry.image("owner/app:v9"))
    async with start_registry(tmp_path / "registry", host=registry.host, port=registry.port):
        engine_api.pull(name)
    engine_api.remove_image(name)


async def test_a_registry_with_users_wants_a_login(engine_api: EngineApi, image: str, tmp_path: Path) -> None:
    async with start_registry(tmp_path / "registry", users={"anna": "secret one"}) as registry:
        with pytest.raises(EngineAnswerError, match="no basic auth credentials"):
            registry.push(engine_api, image)
        registry.push(engine_api, image, credentials=("anna", "secret one"))
        name = registry.image(image)
        for credentials in (None, ("anna", "wrong")):
            with pytest.raises(EngineAnswerError):
                engine_api.pull(name, credentials)
        await trio.to_thread.run_sync(engine_api.pull, name, ("anna", "secret one"))
    engine_api.remove_image(name)
