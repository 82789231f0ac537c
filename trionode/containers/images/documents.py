"""Documents of image registries: lists of manifests, manifests and image configurations (registry.md §6).

Schema 2 of Docker and its OCI twin. Only what decides whether an image can run is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec

from trionode.containers.images.names import ImageName
from trionode.containers.images.registry import ImageError, ImageFault
from trionode.registry.images import ARCHITECTURES

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ACCEPTED = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
LINUX = "linux"
SCHEMA = 2
MOST_IMAGES = 16
"""Images for our architectures that one list may have; each costs a request."""

Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]


class Platform(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""


class Entry(msgspec.Struct, frozen=True):
    """An image in a list."""

    digest: Digest
    platform: Platform = Platform()


class Blob(msgspec.Struct, frozen=True):
    """A layer or a configuration."""

    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0)]


class Manifest(msgspec.Struct, frozen=True):
    """An image of one platform, or (`manifests`) a list of them."""

    schema_version: int = msgspec.field(name="schemaVersion")
    manifests: Sequence[Entry] | None = None
    config: Blob | None = None
    layers: Sequence[Blob] | None = None

    @property
    def size_bytes(self) -> int:
        """Its compressed layers; what they share with other images does not count as less."""
        return sum(layer.size for layer in self.layers or ())


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read_manifest(name: ImageName, content: bytes) -> Manifest:
    """A document that is either a list or an image; raises ImageError."""
    try:
        read = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise bad_answer(name, "a manifest that cannot be read") from error
    if read.schema_version != SCHEMA:
        raise bad_answer(name, f"a manifest of schema {read.schema_version}; only schema 2 is in use")
    if read.manifests is None and (read.config is None or read.layers is None):
        raise bad_answer(name, "a manifest that is neither an image nor a list of images")
    return read


def entries_for_nodes(name: ImageName, index: Manifest) -> list[Entry]:
    """The images of a list that nodes could run: Linux on amd64, arm64 or, so far, nobody knows.

    Raises ImageError.
    """
    found = [
        entry
        for entry in index.manifests or ()
        if entry.platform.architecture in (*ARCHITECTURES, "") and entry.platform.os in (LINUX, "")
    ]
    if len(found) > MOST_IMAGES:
        raise bad_answer(name, f"a list of {len(found)} images for the same architectures")
    return found


def architecture_of(name: ImageName, config: bytes) -> str:
    """The architecture that an image's configuration names; raises ImageError."""
    try:
        return msgspec.json.decode(config, type=Platform).architecture
    except (msgspec.DecodeError, RecursionError) as error:
        raise bad_answer(name, "an image configuration that cannot be read") from error


def bad_answer(name: ImageName, what: str) -> ImageError:
    return ImageError(ImageFault.BAD_ANSWER, f"the registry {name.authority} sent {what} for {name}")
