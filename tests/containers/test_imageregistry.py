"""What is asked of image registries, of the real client (over a registry of values) and its twin alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import pytest
import trio
import trio.testing
from fakeregistry import FakeImage, FakeRegistry

from trionode.containers.engine import Credentials
from trionode.containers.images.http import open_image_registry
from trionode.containers.images.memory import MemoryImageRegistry
from trionode.containers.images.registry import ImageError, ImageFault, ImageRegistry

pytestmark = pytest.mark.trio

LIMIT_BYTES = 5_000
HERE = "registry.example"
NAME = f"{HERE}/owner/app:v1"
ANNA = Credentials("anna", "word of anna")


class World(Protocol):
    """A client, and the registry that it asks."""

    client: ImageRegistry

    def push(self, *architectures: str, size_bytes: int = 100, marker: str = "") -> str: ...

    def lock(self, login: Credentials) -> None: ...

    def fail(self, fault: ImageFault) -> None: ...

    def wait(self, seconds: float) -> None: ...


class HttpWorld:
    def __init__(self, client: ImageRegistry, registry: FakeRegistry) -> None:
        self.client = client
        self._registry = registry

    def push(self, *architectures: str, size_bytes: int = 100, marker: str = "") -> str:
        images = [
            FakeImage(architecture=one, layers=[marker.encode()], claimed_layer_bytes=[size_bytes])
            for one in architectures
        ]
        return self._registry.add("owner/app:v1", *images)

    def lock(self, login: Credentials) -> None:
        self._registry.token_auth = True
        self._registry.token_user = (login.username, login.password)

    def fail(self, fault: ImageFault) -> None:
        self._registry.status = {ImageFault.UNREACHABLE: 503, ImageFault.RATE_LIMITED: 429}[fault]

    def wait(self, seconds: float) -> None:
        self._registry.delay_s = seconds


class MemoryWorld:
    def __init__(self, client: MemoryImageRegistry) -> None:
        self.client: ImageRegistry = client
        self._registry = client
        self._login: Credentials | None = None

    def push(self, *architectures: str, size_bytes: int = 100, marker: str = "") -> str:
        return self._registry.push(
            NAME, architectures=architectures, size_bytes=size_bytes, login=self._login
        )

    def lock(self, login: Credentials) -> None:
        self._login = login

    def fail(self, fault: ImageFault) -> None:
        self._registry.faults[HERE] = fault

    def wait(self, seconds: float) -> None:
        self._registry.delay_s = seconds


@pytest.fixture(params=["http", "memory"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld(MemoryImageRegistry(max_image_bytes=LIMIT_BYTES))
        return
    registry = FakeRegistry(HERE, scheme="https")
    async with open_image_registry(
        max_image_bytes=LIMIT_BYTES, token_margin_s=900.0, transport=registry.transport()
    ) as client:
        yield HttpWorld(client, registry)


async def test_an_image_for_both_architectures(world: World) -> None:
    digest = world.push("amd64", "arm64", size_bytes=700)
    for architecture in ("amd64", "arm64", None):
        manifest = await world.client.verify(NAME, architecture)
        assert (manifest.digest, manifest.size_bytes) == (digest, 700)
        assert manifest.architectures == ("amd64", "arm64")
    assert await world.client.digest(NAME) == digest


async def test_an_image_for_one_architecture(world: World) -> None:
    digest = world.push("arm64")
    assert (await world.client.verify(NAME, "arm64")).digest == digest
    assert (await world.client.verify(NAME)).architectures == ("arm64",)
    with pytest.raises(ImageError, match="not for amd64") as caught:
        await world.client.verify(NAME, "amd64")
    assert caught.value.code == ImageFault.WRONG_ARCHITECTURE
    assert not caught.value.says_nothing_of_the_image


async def test_an_image_for_no_architecture_of_the_network(world: World) -> None:
    world.push("s390x", "riscv64")
    with pytest.raises(ImageError) as caught:
        await world.client.verify(NAME)
    assert caught.value.code == ImageFault.WRONG_ARCHITECTURE


async def test_a_new_image_under_the_old_name_has_another_digest(world: World) -> None:
    old = world.push("amd64", marker="old")
    new = world.push("amd64", marker="new")
    assert old != new
    assert await world.client.digest(NAME) == new


@pytest.mark.parametrize("size_bytes", [LIMIT_BYTES, LIMIT_BYTES + 1])
async def test_an_image_may_be_as_large_as_the_limit(world: World, size_bytes: int) -> None:
    world.push("amd64", size_bytes=size_bytes)
    if size_bytes <= LIMIT_BYTES:
        assert (await world.client.verify(NAME, "amd64")).size_bytes == size_bytes
        return
    with pytest.raises(ImageError, match=str(size_bytes)) as caught:
        await world.client.verify(NAME, "amd64")
    assert caught.value.code == ImageFault.TOO_LARGE


async def test_an_image_that_is_not_there(world: World) -> None:
    for ask in (world.client.verify, world.client.digest):
        with pytest.raises(ImageError, match=NAME) as caught:
            await ask(NAME)
        assert caught.value.code == ImageFault.MISSING
        assert caught.value.remedy


async def test_a_private_image_wants_its_login(world: World) -> None:
    world.lock(ANNA)
    digest = world.push("amd64")
    for ask in (world.client.verify, world.client.digest):
        for credentials in (None, Credentials("anna", "wrong"), Credentials("otto", ANNA.password)):
            with pytest.raises(ImageError) as caught:
                await ask(NAME, credentials=credentials)
            assert caught.value.code == ImageFault.UNAUTHORIZED
            assert "word of anna" not in repr(caught.value) + caught.value.one_line()
    assert await world.client.digest(NAME, ANNA) == digest
    assert (await world.client.verify(NAME, "amd64", ANNA)).digest == digest
    # Who comes without a login afterwards is not let in by what another app was given.
    with pytest.raises(ImageError):
        await world.client.verify(NAME, "amd64")


@pytest.mark.parametrize("fault", [ImageFault.UNREACHABLE, ImageFault.RATE_LIMITED])
async def test_a_registry_that_cannot_answer_says_nothing_of_the_image(
    world: World, fault: ImageFault
) -> None:
    world.push("amd64")
    world.fail(fault)
    for ask in (world.client.verify, world.client.digest):
        with pytest.raises(ImageError) as caught:
            await ask(NAME)
        assert caught.value.code == fault
        assert caught.value.says_nothing_of_the_image


async def test_a_slow_registry_is_waited_for_no_longer_than_the_limit(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.push("amd64")
    world.wait(7.0)
    started_s = trio.current_time()
    await world.client.digest(NAME)
    assert trio.current_time() - started_s == pytest.approx(7.0)
    world.wait(31.0)
    started_s = trio.current_time()
    with pytest.raises(ImageError, match="within 30 s") as caught:
        await world.client.verify(NAME)
    assert caught.value.code == ImageFault.UNREACHABLE
    assert trio.current_time() - started_s == pytest.approx(30.0)


async def test_a_name_without_a_tag_is_refused(world: World) -> None:
    with pytest.raises(ImageError, match="has no tag") as caught:
        await world.client.verify(f"{HERE}/owner/app")
    assert caught.value.code == ImageFault.BAD_NAME


async def test_the_twin_knows_every_image_when_told_so() -> None:
    twin = MemoryImageRegistry(anything=True)
    manifest = await twin.verify("owner/app:v1", "arm64")
    assert await twin.digest("owner/app:v1") == manifest.digest
    assert twin.asked == {("verify", "owner/app:v1"): 1, ("digest", "owner/app:v1"): 1}
    twin.faults["*"] = ImageFault.BAD_ANSWER
    with pytest.raises(ImageError):
        await twin.digest("owner/app:v1")
    twin.faults.clear()
    pushed = twin.push("owner/app:v1")
    assert await twin.digest("docker.io/owner/app:v1") == pushed != manifest.digest
    twin.remove("owner/app:v1")
    assert await twin.digest("owner/app:v1") == manifest.digest
