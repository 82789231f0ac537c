"""What the parts of the Docker adapter need of its link, so that they know nothing of asyncio.

`docker_link.DockerLink` is the real one; errors come out as EngineError (docs/spec/lifecycle.md §13).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Body(Protocol):
    """The body of an answer, as it comes."""

    async def receive(self) -> bytes:
        """The next piece, b"" at the end. A cancelled call loses nothing."""
        ...


class Requests(Protocol):
    """Requests to one engine. `doing`: for error texts; `secrets`: what these must not hold."""

    async def call(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        secrets: Iterable[str] = (),
    ) -> bytes:
        """The whole answer."""
        ...

    def stream(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
    ) -> AbstractAsyncContextManager[Body]:
        """An answer as it comes; the connection is closed with the block."""
        ...

    async def version(self) -> bytes:
        """The engine's answer about its versions."""
        ...
