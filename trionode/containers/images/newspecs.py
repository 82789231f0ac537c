"""Whether the network may run the images of a specification that is to be registered (docs/spec/registry.md
§6, stage 7): block lists, then what the image registries offer. Only the node an owner talks to asks this.
"""

from __future__ import annotations

from typing import Protocol

from trionode.containers.actions import Spec
from trionode.containers.engine import Credentials
from trionode.containers.images.registry import ImageManifest
from trionode.errors import TrionodeError
from trionode.plans.parts import Part, parts_of
from trionode.registry.images import (
    ARCHITECTURES,
    BlockLists,
    common_architectures,
    find_block,
    repotags_to_check,
)
from trionode.wire.jsjson import truthy


class Registries(Protocol):
    """Asks image registries (`containers.images.registry.ImageRegistry`)."""

    async def verify(
        self, repotag: str, architecture: str | None = None, credentials: Credentials | None = None
    ) -> ImageManifest: ...


class Logins(Protocol):
    """Logins for image registries."""

    async def of(self, part: Part) -> Credentials | None: ...


class Lists(Protocol):
    """The block lists in force."""

    async def lists(self) -> BlockLists: ...


class NewImages:
    """Asks for one image after the other, and stops at the first that is refused."""

    def __init__(self, registries: Registries, logins: Logins, lists: Lists) -> None:
        self._registries = registries
        self._logins = logins
        self._lists = lists

    async def problem(self, spec: Spec) -> str | None:
        """Why not, in a sentence; None when they may be registered. `spec`: formatted and in clear."""
        try:
            found = find_block(spec, "", await self._lists.lists())
            if found is not None:
                return found.sentence
            return await self._offered(spec)
        except TrionodeError as error:
            return error.one_line()

    async def _offered(self, spec: Spec) -> str | None:
        repotags, is_whole = repotags_to_check(spec)
        offered = []
        for part in (parts_of(spec) or ())[: len(repotags)]:
            manifest = await self._registries.verify(part.repotag, None, await self._logins.of(part))
            offered.append(manifest.architectures)
        is_enterprise = truthy(spec.get("enterprise"))
        if not is_whole or common_architectures(offered, enterprise=is_enterprise):
            return None
        if is_enterprise:
            return f"An encrypted app needs every image for {ARCHITECTURES[0]}."
        return f"Its images have no architecture in common: all for {' or all for '.join(ARCHITECTURES)}."
