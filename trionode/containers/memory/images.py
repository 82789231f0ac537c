"""The images of the engine twin, and how they are fetched from registries (lifecycle.md §12, §13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trionode.containers.engine import Conflict, Credentials, Image, NotFound, PullProgress
from trionode.containers.memory.events import EventHub
from trionode.containers.memory.objects import (
    LocalImage,
    RegistryImage,
    digest_of,
    familiar,
    repository_of,
)
from trionode.runtime.clock import WallClock


class MemoryImages:
    """The local images. `registry`: repotag -> what registries offer by it; it may change at any time."""

    def __init__(self, registry: Mapping[str, RegistryImage], clock: WallClock, hub: EventHub) -> None:
        self._registry = registry
        self._clock = clock
        self._hub = hub
        self.by_id: dict[str, LocalImage] = {}
        self._by_tag: dict[str, LocalImage] = {}

    def find(self, name: str) -> LocalImage:
        """By tag, digest or id."""
        found = self._by_tag.get(familiar(name)) or self.by_id.get(name)
        if found is None:
            found = next((image for image in self.by_id.values() if _is_named(image, name)), None)
        if found is None:
            raise NotFound(f"no such image: {name}", remedy="pull the image first", status=404)
        return found

    def fetch(self, repotag: str, credentials: Credentials | None) -> Iterator[PullProgress]:
        """The messages of a pull; the image is there after the last one but one."""
        offered = self._registry.get(repotag) or self._registry.get(familiar(repotag))
        if offered is None:
            raise NotFound(f"manifest for {repotag} not found: manifest unknown", status=404)
        if offered.credentials is not None and offered.credentials != credentials:
            raise NotFound(
                f"pull access denied for {repotag}, it does not exist or needs a login",
                remedy="check the registry credentials of the app",
                status=404,
            )
        digest = offered.digest_for(repotag)
        tag = familiar(repotag).rpartition(":")[2]
        yield PullProgress(f"Pulling from {repository_of(repotag)}", tag)
        known = self._by_tag.get(familiar(repotag))
        if known is not None and known.digests and known.digests[0].endswith(digest):
            yield PullProgress(f"Digest: {digest}")
            yield PullProgress(f"Status: Image is up to date for {repotag}")
            return
        size = max(offered.size_bytes // max(offered.layers, 1), 1)
        layers = [digest_of(digest, number)[:12] for number in range(offered.layers)]
        for layer in layers:
            yield PullProgress("Pulling fs layer", layer)
        for layer in layers:
            yield PullProgress("Downloading", layer, size // 2, size)
            yield PullProgress("Download complete", layer)
            yield PullProgress("Pull complete", layer)
        self._keep(repotag, digest, offered)
        yield PullProgress(f"Digest: {digest}")
        yield PullProgress(f"Status: Downloaded newer image for {repotag}")

    def remove(self, name: str, used: frozenset[str]) -> None:
        """`used`: ids of images that containers were made of."""
        image = self.find(name)
        tag = familiar(name)
        others = [known for known in image.tags if known != tag]
        if image.id in used and not (tag in image.tags and others):
            raise Conflict(f"unable to remove {name}: a container is using its image", status=409)
        if name == image.id and len(image.tags) > 1:
            raise Conflict(f"unable to delete {name}: it has several tags", status=409)
        if tag in image.tags and others:
            image.tags = others
            del self._by_tag[tag]
            self._hub.tell("image", "untag", image.id, {"name": image.id})
            return
        for known in image.tags:
            del self._by_tag[known]
        del self.by_id[image.id]
        self._hub.tell("image", "delete", image.id, {"name": image.id})

    def _keep(self, repotag: str, digest: str, offered: RegistryImage) -> None:
        tag, image_id = familiar(repotag), f"sha256:{digest_of(digest, 'image')}"
        before = self._by_tag.pop(tag, None)
        if before is not None:
            # What had the tag stays as an image without one, as on a real engine.
            before.tags = [known for known in before.tags if known != tag]
        image = self.by_id.get(image_id)
        if image is None:
            image = LocalImage(image_id, offered, [], [], self._clock.now_ms() // 1000)
            self.by_id[image_id] = image
        if "@" not in tag:
            image.tags.append(tag)
        self._by_tag[tag] = image
        full = f"{repository_of(familiar(repotag))}@{digest}"
        if full not in image.digests:
            image.digests.append(full)
        self._hub.tell("image", "pull", tag, {"name": repository_of(tag)})


def image_of(image: LocalImage) -> Image:
    """An image as the port shows it."""
    return Image(
        id=image.id,
        tags=tuple(image.tags),
        digests=tuple(image.digests),
        size_bytes=image.source.size_bytes,
        created_s=image.created_s,
        architecture=image.source.architecture,
        labels=image.source.labels,
    )


def _is_named(image: LocalImage, name: str) -> bool:
    if familiar(name) in image.digests:
        return True
    short = name.removeprefix("sha256:")
    return len(short) >= 12 and image.id.startswith(f"sha256:{short}")
