"""An engine pulls from the registry of values as it would from a real one."""

from __future__ import annotations

import pytest
import trio
from engineapi import EngineAnswerError, EngineApi
from enginefixtures import *  # noqa: F403 - fixtures are found by name
from fakeregistry import busybox_image, fake_registry
from leaks import LeakWatch

pytestmark = [pytest.mark.process, pytest.mark.trio]


async def pull(api: EngineApi, name: str, credentials: tuple[str, str] | None = None) -> list[dict[str, str]]:
    # In a thread: the registry answers from the loop of this test.
    return await trio.to_thread.run_sync(api.pull, name, credentials)


HAD = ("Pull complete", "Already exists")


@pytest.mark.parametrize("oci", [False, True])
async def test_an_engine_pulls_its_architecture_layer_by_layer_and_runs_it(
    engine_api: EngineApi, nothing_left: LeakWatch, oci: bool
) -> None:
    async with fake_registry() as registry:
        images = [busybox_image("one"), busybox_image("two", architecture="arm64")]
        digest = registry.add("owner/app:v1", *images, oci=oci)
        name = f"{registry.address}/owner/app:v1"
        lines = await pull(engine_api, name)
        # another image of the engine may have the lower layer already
        assert len({line["id"] for line in lines if line.get("status") in HAD}) == 2
        assert {line["status"] for line in lines} >= {f"Digest: {digest}"}
        engine_api.run("kitpulled", name, ["cat", "/marker"])
        engine_api.call("POST", "/containers/kitpulled/wait")
        assert engine_api.logs("kitpulled") == "one"
        engine_api.remove("kitpulled")
        engine_api.remove_image(name)


async def test_an_engine_gets_a_token_with_its_login(engine_api: EngineApi) -> None:
    async with fake_registry() as registry:
        registry.add("owner/app:v1", busybox_image())
        registry.token_auth = True
        registry.token_user = ("anna", "secret")
        name = f"{registry.address}/owner/app:v1"
        with pytest.raises(EngineAnswerError):
            await pull(engine_api, name)
        await pull(engine_api, name, ("anna", "secret"))
        assert set(registry.tokens.values()) >= {"repository:owner/app:pull"}
        engine_api.remove_image(name)


async def test_an_engine_is_told_that_there_is_no_such_image(engine_api: EngineApi) -> None:
    async with fake_registry() as registry:
        with pytest.raises(EngineAnswerError, match="manifest unknown"):
            await pull(engine_api, f"{registry.address}/owner/app:v1")
