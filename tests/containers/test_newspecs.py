"""Images of specifications that are to be registered (docs/spec/registry.md §6, stage 7)."""

from __future__ import annotations

from typing import Any

import pytest
from hostedapps import FakeLists

from trionode.containers.engine import Credentials
from trionode.containers.images.newspecs import NewImages
from trionode.containers.images.registry import ImageManifest
from trionode.devnet.registering import specification
from trionode.errors import HostError
from trionode.plans.parts import Part
from trionode.registry.images import BlockLists

pytestmark = pytest.mark.trio

BOTH = ("amd64", "arm64")


class Registries:
    """Images by name, with their architectures."""

    def __init__(self, **offered: tuple[str, ...]) -> None:
        self.offered = {f"{name}:1": architectures for name, architectures in offered.items()}
        self.asked: list[tuple[str, Credentials | None]] = []

    async def verify(
        self, repotag: str, architecture: str | None = None, credentials: Credentials | None = None
    ) -> ImageManifest:
        assert architecture is None
        self.asked.append((repotag, credentials))
        if repotag not in self.offered:
            raise HostError(f"there is no image {repotag}", remedy="push it")
        return ImageManifest("sha256:ab", 1, self.offered[repotag])


class Logins:
    async def of(self, part: Part) -> Credentials | None:
        return Credentials("me", "secret") if part.credentials else None


def app(*images: str, **changes: Any) -> dict[str, Any]:
    spec = specification("shop", "owner")
    part = spec["compose"][0]
    compose = [{**part, "name": f"web{n}", "repotag": f"{image}:1"} for n, image in enumerate(images)]
    return {**spec, "compose": compose, **changes}


def checked(registries: Registries, lists: BlockLists | None = None) -> NewImages:
    known = FakeLists()
    known.found = lists or known.found
    return NewImages(registries, Logins(), known)


@pytest.mark.parametrize(
    ("offered", "enterprise", "said"),
    [
        ({"web": BOTH, "db": ("arm64",)}, "", None),
        ({"web": ("amd64",), "db": ("arm64",)}, "", "no architecture in common"),
        ({"web": BOTH, "db": ("arm64",)}, "blob", "needs every image for amd64"),
        ({"web": ("amd64",), "db": BOTH}, "blob", None),
        ({"web": BOTH}, "", "there is no image db:1"),
    ],
)
async def test_all_images_run_on_one_architecture(
    offered: dict[str, tuple[str, ...]], enterprise: str, said: str | None
) -> None:
    registries = Registries(**offered)
    problem = await checked(registries).problem(app("web", "db", enterprise=enterprise))
    assert [repotag for repotag, _ in registries.asked] == ["web:1", "db:1"]
    assert (problem is None) if said is None else said in str(problem)


async def test_what_the_network_blocks_is_not_looked_up() -> None:
    registries = Registries(web=BOTH)
    problem = await checked(registries, BlockLists(blocked=("web",))).problem(app("web"))
    assert "blocked repositories" in str(problem)
    assert registries.asked == []


async def test_logins_are_used_and_a_closed_one_of_version_7_ends_the_look() -> None:
    registries = Registries(web=BOTH, db=("arm64",))
    spec = app("web", "db")
    spec["compose"][1]["repoauth"] = "me:secret"
    assert await checked(registries).problem(spec) is None
    assert registries.asked == [("web:1", None), ("db:1", Credentials("me", "secret"))]
    registries.asked.clear()
    assert await checked(registries).problem({**spec, "version": 7}) is None
    assert registries.asked == [("web:1", None)]
