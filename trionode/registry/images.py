"""Which images an app must not run: the block lists (docs/spec/registry.md §6, stage 7).

The same rule for our users' registrations, the spawner, the installer and the hourly sweep. What it needs
of the world, the lists themselves and what a registry says about an image, is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from trionode.wire.jsjson import JsValue, truthy

ARCHITECTURES = ("amd64", "arm64")
"""Architectures that nodes have; enterprise apps only run on the first."""


class BlockKind(StrEnum):
    """What of an app a list names."""

    HASH = "hash"
    OWNER = "owner"
    IMAGE = "image"
    ORGANISATION = "organisation"
    OPERATOR = "operator"


class ImageBlock(msgspec.Struct, frozen=True):
    """An app is blocked: `entry` of a list names `value`, which is its hash, owner, image or organisation."""

    kind: BlockKind
    entry: str
    value: str

    @property
    def sentence(self) -> str:
        if self.kind is BlockKind.OPERATOR:
            return f"the operator of this node does not run {self.value} (blockedRepositories: {self.entry})."
        return f"the {self.kind} {self.value} is on the network's list of blocked repositories."


class BlockLists(msgspec.Struct, frozen=True):
    """The lists in force. `blocked` and `vetted` are the network's files, `operator` is of this node.

    `marketplace` holds what the public marketplace offers: operators cannot block that.
    """

    blocked: Sequence[str] = ()
    vetted: Sequence[str] = ()
    operator: Sequence[str] = ()
    marketplace: Iterable[str] = ()


def image_of(repotag: str) -> str:
    """The image of `image:tag`: without its last colon and what follows."""
    return repotag.rpartition(":")[0] if ":" in repotag else repotag


def organisation_of(image: str) -> str:
    """The image up to its last slash; the whole image when it has none."""
    return image.rpartition("/")[0] if "/" in image else image


def images_of(spec: Mapping[str, JsValue]) -> list[str]:
    """The images of all components, without tags."""
    parts: Iterable[Mapping[str, JsValue]] = [spec] if spec["version"] <= 3 else spec.get("compose") or ()
    # the rules of the network let numbers and lists pass as names of images
    return [image_of(str(part["repotag"])) for part in parts]


def find_block(spec: Mapping[str, JsValue], app_hash: str, lists: BlockLists) -> ImageBlock | None:
    """Why the app may not run on this node, or None. `app_hash` is empty before it is registered."""
    found = _named(spec, app_hash, lists.blocked)
    if found is not None or not lists.operator:
        return found
    return None if is_vetted(spec, app_hash, lists) else _blocked_by_operator(spec, lists)


def is_vetted(spec: Mapping[str, JsValue], app_hash: str, lists: BlockLists) -> bool:
    """Vetted apps are not subject to what an operator blocks, repositories and ports alike."""
    return _named(spec, app_hash, lists.vetted) is not None


def common_architectures(offered: Sequence[Iterable[str]], *, enterprise: bool) -> tuple[str, ...]:
    """Architectures that every component offers (`offered`: of each); none means the app cannot run.

    An enterprise app needs amd64 on all of its components.
    """
    sets = [set(architectures) for architectures in offered]
    wanted = ARCHITECTURES[:1] if enterprise else ARCHITECTURES
    return tuple(name for name in wanted if sets and all(name in names for names in sets))


def repotags_to_check(spec: Mapping[str, JsValue]) -> tuple[list[str], bool]:
    """Images to look up in their registries, in order, and whether that is all of the app.

    A v7 component with credentials for its registry ends the look: the app is accepted if those before it
    were, whatever their architectures.
    """
    parts: Iterable[Mapping[str, JsValue]] = [spec] if spec["version"] <= 3 else spec.get("compose") or ()
    repotags: list[str] = []
    for part in parts:
        if spec["version"] == 7 and truthy(part.get("repoauth", "")):
            return repotags, False
        repotags.append(part["repotag"])
    return repotags, True


def _named(spec: Mapping[str, JsValue], app_hash: str, entries: Sequence[str]) -> ImageBlock | None:
    """The first of hash, owner, images and organisations that an entry equals, case and all."""
    if not entries:
        return None
    by_name = {image_of(entry): entry for entry in entries}
    images = images_of(spec)
    candidates = [
        (BlockKind.HASH, app_hash),
        (BlockKind.OWNER, str(spec["owner"])),
        *((BlockKind.IMAGE, image) for image in images),
        *((BlockKind.ORGANISATION, organisation_of(image)) for image in images),
    ]
    for kind, value in candidates:
        if value and value in by_name:
            return ImageBlock(kind, by_name[value], value)
    return None


def _blocked_by_operator(spec: Mapping[str, JsValue], lists: BlockLists) -> ImageBlock | None:
    """The operator's entries are compared as typed, with images and organisations in lower case."""
    offered = frozenset(lists.marketplace)
    entries = [entry for entry in lists.operator if entry not in offered]
    images = [image.lower() for image in images_of(spec)]
    for value in (*map(organisation_of, images), *images):
        if value in entries:
            return ImageBlock(BlockKind.OPERATOR, value, value)
    return None
