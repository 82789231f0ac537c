"""Whether this machine can have all images of an app (docs/spec/lifecycle.md §11, step 11)."""

from __future__ import annotations

from typing import Any, Protocol

from trionode.containers.actions import Spec
from trionode.containers.engine import Credentials, EngineInfo
from trionode.errors import TrionodeError
from trionode.plans.parts import Part, parts_of


class ImageCheck(Protocol):
    """Asks an image registry (`containers.images.registry.ImageRegistry`)."""

    async def verify(self, repotag: str, architecture: str, credentials: Credentials | None = None) -> Any:
        """Raises HostError when the image is not there, not for this architecture, or too large."""
        ...


class Logins(Protocol):
    """Logins for image registries."""

    async def of(self, part: Part) -> Credentials | None:
        """Raises PlanError or HostError when it cannot be opened."""
        ...


class MachineSide(Protocol):
    """What is asked of the engine."""

    async def info(self) -> EngineInfo: ...


class SpecImages:
    """Asks for one image after the other, and stops at the first that cannot be had."""

    def __init__(self, images: ImageCheck, logins: Logins, engine: MachineSide) -> None:
        self._images = images
        self._logins = logins
        self._engine = engine

    async def problem(self, spec: Spec) -> str | None:
        """Why not, in a sentence; None when all can be had."""
        parts = parts_of(spec)
        if parts is None:
            return "Its components cannot be read."
        try:
            architecture = (await self._engine.info()).architecture
            for part in parts:
                await self._images.verify(part.repotag, architecture, await self._logins.of(part))
        except TrionodeError as error:
            return error.message
        return None
