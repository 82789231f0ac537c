"""The port to image registries: is there such an image, for this machine, not too large, and which one is it.

docs/spec/registry.md §6 (registry check) and docs/spec/lifecycle.md §11.11, §12, §16. The real client is
`imageregistry_http.open_image_registry`, its twin `imageregistry_memory.MemoryImageRegistry`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from trionode.containers.engine import Credentials
from trionode.errors import HostError

ANSWER_S = 30.0
"""Time limit of a question, with all that it takes to answer it."""


class ImageFault(StrEnum):
    """Why an image cannot be had."""

    UNREACHABLE = "unreachable"
    RATE_LIMITED = "rate_limited"
    UNAUTHORIZED = "unauthorized"
    MISSING = "missing"
    TOO_LARGE = "too_large"
    WRONG_ARCHITECTURE = "wrong_architecture"
    BAD_ANSWER = "bad_answer"
    BAD_NAME = "bad_name"


REMEDIES = {
    ImageFault.UNREACHABLE: "try again later, or check that this machine reaches the registry",
    ImageFault.RATE_LIMITED: "wait; the registry limits how often it is asked",
    ImageFault.UNAUTHORIZED: "check the name of the image and the login in the specification",
    ImageFault.MISSING: "push the image, or correct its name and tag in the specification",
    ImageFault.TOO_LARGE: "make the image smaller",
    ImageFault.WRONG_ARCHITECTURE: "build the image for this architecture too",
    ImageFault.BAD_ANSWER: "push the image again with a present-day builder, or use another registry",
    ImageFault.BAD_NAME: "write the image as [registry/]name:tag",
}


class ImageError(HostError):
    """An image cannot be had; `code` says why. Texts name images and registries, never a login."""

    code: ImageFault

    def __init__(self, code: ImageFault, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy or REMEDIES[code], code=code)

    @property
    def says_nothing_of_the_image(self) -> bool:
        """The registry could not be asked; the image itself may be as good as ever."""
        return self.code in (ImageFault.UNREACHABLE, ImageFault.RATE_LIMITED)


class ImageManifest(msgspec.Struct, frozen=True):
    """What a registry offers under a name.

    `digest` is that of the document the tag leads to, as an engine shows it after a pull. `size_bytes` are
    the compressed layers of the image for the architecture asked for, else of the largest.
    """

    digest: str
    size_bytes: int
    architectures: tuple[str, ...]


class ImageRegistry(Protocol):
    """Asks the registries that images come from."""

    async def verify(
        self, repotag: str, architecture: str | None = None, credentials: Credentials | None = None
    ) -> ImageManifest:
        """The image behind `[registry/]name:tag`; raises ImageError when it must not or cannot run.

        With `architecture` (`amd64`, `arm64`) it has to be there for that one. The size limit holds for every
        architecture that nodes have.
        """
        ...

    async def digest(self, repotag: str, credentials: Credentials | None = None) -> str:
        """What `verify(...).digest` would say, cheaply. Raises ImageError."""
        ...
