"""Fixtures of the contracts: a machine with a container engine, the twin's and a real one's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from enginefixtures import *  # noqa: F403 - fixtures are found by name
from engineworld import APP, NETWORK, MemoryWorld, World, docker_world

from trionode.plans.networks import Subnet

KINDS = ["memory", pytest.param("docker", marks=[pytest.mark.process, pytest.mark.engine])]
SUBNET = Subnet(231)


@pytest.fixture(params=KINDS)
def machine(request: pytest.FixtureRequest) -> object:
    """What the world is made of; None for the twin."""
    if request.param == "memory":
        return None
    for name in ("engine", "image_registry", "engine_turn"):
        request.getfixturevalue(name)
    return request.getfixturevalue("engine"), request.getfixturevalue("image_registry"), None


@pytest.fixture(params=KINDS)
def own_machine(request: pytest.FixtureRequest) -> object:
    """The same for a test that restarts the engine."""
    if request.param == "memory":
        return None
    own = request.getfixturevalue("own_engine")
    return own.at, request.getfixturevalue("image_registry"), own


@pytest.fixture
async def world(machine: object) -> AsyncIterator[World]:
    """An engine with some images and no containers of the contract's app."""
    if machine is None:
        yield await memory_world()
        return
    async with docker_world(*machine) as made:  # type: ignore[misc]
        yield made


@pytest.fixture
async def own_world(own_machine: object) -> AsyncIterator[World]:
    """One whose engine may be restarted."""
    if own_machine is None:
        yield await memory_world()
        return
    async with docker_world(*own_machine) as made:  # type: ignore[misc]
        yield made


@pytest.fixture
async def networked(world: World) -> World:
    """A world with the network of the contract's app."""
    await world.engine.create_network(NETWORK, SUBNET, APP)
    return world


async def memory_world() -> MemoryWorld:
    made = MemoryWorld()
    for image in list(made.twin.registry):
        if image != made.offered:
            async with made.engine.pull(image) as messages:
                async for _ in messages:
                    pass
    made.twin.actions.clear()
    return made
