"""The words of a real engine when a container cannot be started: they quote what it was given (§13)."""

from __future__ import annotations

import pytest
from busyboximages import import_image
from dockerengine import TestEngine
from engineworld import APP, docker_world, options
from imageregistry import TestRegistry

from trionode.api.routes.applogs import without_secrets
from trionode.containers.docker.engine import open_docker
from trionode.containers.engine import EngineError
from trionode.containers.hiding import start_container

pytestmark = pytest.mark.trio

NAME = f"fluxweb_{APP}"
BARE = "contract/bare:1"
SECRET = "hunter2-very-secret"


@pytest.mark.parametrize("word", [f"--token={SECRET}", SECRET, f'--say="{SECRET}"', f"/opt/{SECRET}/run"])
async def test_a_command_that_is_no_program_is_not_quoted(
    engine: TestEngine, image_registry: TestRegistry, word: str
) -> None:
    async with docker_world(engine, image_registry), open_docker(engine.url) as adapter:
        import_image(engine.api, BARE, entrypoint=())
        await adapter.create(options(network="bridge", image=BARE, command=(word,)))
        with pytest.raises(EngineError) as loud:
            await adapter.start(NAME)
        assert SECRET in loud.value.message, "the engine quotes it, else this test is for nothing"
        with pytest.raises(EngineError) as caught:
            await start_container(adapter, NAME)
        assert SECRET not in caught.value.one_line()
        assert "cannot start" in caught.value.message
        document = (await adapter.inspect(NAME)).document
        assert SECRET in str(document["State"]["Error"])
        assert SECRET not in repr(without_secrets(document))
        await adapter.remove(NAME, force=True)
        await adapter.remove_image(BARE)
