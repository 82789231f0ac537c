"""MemoryImageRegistry: all registries of the world as values, for the simulator and for tests.

The twin of `imageregistry_http` (docs/spec/registry.md §6); the same rules, without documents and sockets.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import msgspec
import trio

from trionode.containers.engine import Credentials
from trionode.containers.images.names import ImageName, parse_name
from trionode.containers.images.registry import ANSWER_S, ImageError, ImageFault, ImageManifest
from trionode.registry.images import ARCHITECTURES

SIZE_BYTES = 1_000_000
MAX_IMAGE_BYTES = 5_000_000_000
EVERYTHING = "*"


class StoredImage(msgspec.Struct, frozen=True):
    """An image under a name. `login`: wanted from whoever asks."""

    manifest: ImageManifest
    login: Credentials | None = None


class MemoryImageRegistry:
    """`ImageRegistry` in memory. What goes wrong is set as attributes, at any time."""

    def __init__(
        self,
        *,
        anything: bool = False,
        max_image_bytes: int = MAX_IMAGE_BYTES,
        timeout_s: float = ANSWER_S,
    ) -> None:
        self.anything = anything
        """True: a name that was never pushed is an image for every architecture."""
        self.faults: dict[str, ImageFault] = {}
        """What is answered instead, by name as in the specification, by host of the registry, or "*"."""
        self.delay_s = 0.0
        """How long an answer takes; longer than the time limit is no answer."""
        self.asked: Counter[tuple[str, str]] = Counter()
        """How often ("verify" or "digest", name) was asked."""
        self._max_image_bytes = max_image_bytes
        self._timeout_s = timeout_s
        self._images: dict[ImageName, StoredImage] = {}
        self._pushes = 0

    # --- what tests and the simulator do ------------------------------------------------------

    def push(
        self,
        repotag: str,
        *,
        architectures: tuple[str, ...] = ARCHITECTURES,
        size_bytes: int = SIZE_BYTES,
        digest: str = "",
        login: Credentials | None = None,
    ) -> str:
        """The name leads to a new image from now on; its digest."""
        self._pushes += 1
        made = digest or _digest(f"{repotag} {self._pushes}")
        manifest = ImageManifest(made, size_bytes, architectures)
        self._images[parse_name(repotag)] = StoredImage(manifest, login)
        return made

    def remove(self, repotag: str) -> None:
        """The name leads nowhere from now on."""
        self._images.pop(parse_name(repotag), None)

    # --- the port -----------------------------------------------------------------------------

    async def verify(
        self, repotag: str, architecture: str | None = None, credentials: Credentials | None = None
    ) -> ImageManifest:
        """See `ImageRegistry.verify`."""
        name, manifest = await self._look("verify", repotag, credentials)
        offered = tuple(one for one in ARCHITECTURES if one in manifest.architectures)
        if not offered or (architecture is not None and architecture not in offered):
            wanted = architecture or " or ".join(ARCHITECTURES)
            raise ImageError(ImageFault.WRONG_ARCHITECTURE, f"the image {name} is not for {wanted}")
        if manifest.size_bytes > self._max_image_bytes:
            raise ImageError(ImageFault.TOO_LARGE, f"the image {name} has {manifest.size_bytes} bytes")
        return msgspec.structs.replace(manifest, architectures=offered)

    async def digest(self, repotag: str, credentials: Credentials | None = None) -> str:
        """See `ImageRegistry.digest`."""
        return (await self._look("digest", repotag, credentials))[1].digest

    async def _look(
        self, question: str, repotag: str, credentials: Credentials | None
    ) -> tuple[ImageName, ImageManifest]:
        self.asked[question, repotag] += 1
        name = parse_name(repotag)
        if self.delay_s > self._timeout_s:
            await trio.sleep(self._timeout_s)
            raise ImageError(
                ImageFault.UNREACHABLE,
                f"the registry {name.authority} said nothing of {name} within {self._timeout_s:g} s",
            )
        await trio.sleep(self.delay_s)
        for key in (repotag, name.authority, EVERYTHING):
            if key in self.faults:
                raise ImageError(self.faults[key], f"{name}: {self.faults[key]}")
        stored = self._images.get(name)
        if stored is None and self.anything:
            return name, ImageManifest(_digest(repotag), SIZE_BYTES, ARCHITECTURES)
        if stored is None:
            raise ImageError(ImageFault.MISSING, f"the registry {name.authority} has no image {name}")
        if stored.login not in (None, credentials):
            raise ImageError(ImageFault.UNAUTHORIZED, f"{name.authority} does not give out {name}")
        return name, stored.manifest


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
