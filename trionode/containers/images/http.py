"""The image registries of the world over HTTP (docs/spec/registry.md §6; v2 API of Docker and OCI).

HTTPS, but plain HTTP on the machine itself. One time limit holds for a whole question, and what is fetched
by its digest must have that digest.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar

import httpx
import trio

from trionode import __version__
from trionode.containers.engine import Credentials
from trionode.containers.images.documents import (
    ACCEPTED,
    Manifest,
    architecture_of,
    bad_answer,
    digest_of,
    entries_for_nodes,
    read_manifest,
)
from trionode.containers.images.fetch import RegistryFetch
from trionode.containers.images.login import Login, login_of
from trionode.containers.images.names import ImageName, parse_name
from trionode.containers.images.registry import ANSWER_S, ImageError, ImageFault, ImageManifest
from trionode.registry.images import ARCHITECTURES

MANIFEST_BYTES = 4 << 20
CONFIG_BYTES = 8 << 20
CONNECTIONS = 20
DIGEST_HEADER = "docker-content-digest"

Result = TypeVar("Result")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@asynccontextmanager
async def open_image_registry(
    *,
    max_image_bytes: int,
    token_margin_s: float,
    timeout_s: float = ANSWER_S,
    tls: ssl.SSLContext | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[HttpImageRegistry]:
    """A client for the length of a block.

    `tls`: whom to trust, by default whom the machine trusts. `transport`: another way than sockets.
    """
    client = httpx.AsyncClient(
        verify=tls if tls is not None else ssl.create_default_context(),
        transport=transport,
        headers={"User-Agent": f"trionode/{__version__}"},
        limits=httpx.Limits(max_connections=CONNECTIONS),
        # Time limits are Trio's. Logins come from specifications only: no netrc, no proxies, no cookies.
        timeout=None,
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )
    async with client:
        yield HttpImageRegistry(
            RegistryFetch(client, token_margin_s), max_image_bytes=max_image_bytes, timeout_s=timeout_s
        )


class HttpImageRegistry:
    """`ImageRegistry` over HTTP; made by `open_image_registry`."""

    def __init__(self, fetch: RegistryFetch, *, max_image_bytes: int, timeout_s: float) -> None:
        self._fetch = fetch
        self._max_image_bytes = max_image_bytes
        self._timeout_s = timeout_s

    async def verify(
        self, repotag: str, architecture: str | None = None, credentials: Credentials | None = None
    ) -> ImageManifest:
        """See `ImageRegistry.verify`."""
        name = parse_name(repotag)
        return await self._in_time(
            name, lambda: self._verify(name, login_of(name, credentials), architecture)
        )

    async def digest(self, repotag: str, credentials: Credentials | None = None) -> str:
        """See `ImageRegistry.digest`."""
        name = parse_name(repotag)
        return await self._in_time(name, lambda: self._digest(name, login_of(name, credentials)))

    async def _in_time(self, name: ImageName, ask: Callable[[], Awaitable[Result]]) -> Result:
        with trio.move_on_after(self._timeout_s):
            return await ask()
        raise ImageError(
            ImageFault.UNREACHABLE,
            f"the registry {name.authority} said nothing of {name} within {self._timeout_s:g} s",
        )

    async def _digest(self, name: ImageName, login: Login) -> str:
        reply = await self._fetch.ask(
            name, login, f"manifests/{name.tag}", accept=ACCEPTED, at_most_bytes=0, method="HEAD"
        )
        said: str = reply.headers.get(DIGEST_HEADER, "")
        # Not every registry says it; the document itself does.
        return said if _DIGEST.fullmatch(said) else digest_of(await self._tagged(name, login))

    async def _verify(self, name: ImageName, login: Login, architecture: str | None) -> ImageManifest:
        content = await self._tagged(name, login)
        sizes = await self._sizes(name, login, read_manifest(name, content))
        if not sizes:
            offered = " or ".join(ARCHITECTURES)
            raise ImageError(ImageFault.WRONG_ARCHITECTURE, f"the image {name} is not for {offered}")
        if architecture is not None and architecture not in sizes:
            raise ImageError(
                ImageFault.WRONG_ARCHITECTURE,
                f"the image {name} is for {' and '.join(sizes)}, not for {architecture}",
            )
        for one, size_bytes in sizes.items():
            if size_bytes > self._max_image_bytes:
                raise ImageError(
                    ImageFault.TOO_LARGE,
                    f"the image {name} for {one} has {size_bytes} bytes compressed;"
                    f" at most {self._max_image_bytes} are allowed",
                )
        size_bytes = max(sizes.values()) if architecture is None else sizes[architecture]
        return ImageManifest(digest_of(content), size_bytes, tuple(sizes))

    async def _sizes(self, name: ImageName, login: Login, manifest: Manifest) -> dict[str, int]:
        """Bytes of the largest image for each architecture that nodes have, in their order."""
        found: dict[str, int] = {}
        if manifest.manifests is None:
            found[await self._architecture(name, login, manifest)] = manifest.size_bytes
        for entry in entries_for_nodes(name, manifest):
            content = await self._by_digest(name, login, "manifests", entry.digest, MANIFEST_BYTES)
            image = read_manifest(name, content)
            if image.manifests is not None:
                raise bad_answer(name, "a list of images inside of another")
            one = entry.platform.architecture or await self._architecture(name, login, image)
            found[one] = max(found.get(one, 0), image.size_bytes)
        return {one: found[one] for one in ARCHITECTURES if one in found}

    async def _architecture(self, name: ImageName, login: Login, image: Manifest) -> str:
        assert image.config is not None, "read_manifest lets no other pass"
        return architecture_of(
            name, await self._by_digest(name, login, "blobs", image.config.digest, CONFIG_BYTES)
        )

    async def _tagged(self, name: ImageName, login: Login) -> bytes:
        reply = await self._fetch.ask(
            name, login, f"manifests/{name.tag}", accept=ACCEPTED, at_most_bytes=MANIFEST_BYTES
        )
        said = reply.headers.get(DIGEST_HEADER, "")
        if _DIGEST.fullmatch(said) and said != digest_of(reply.content):
            raise bad_answer(name, "a manifest that does not have the digest it names")
        return reply.content

    async def _by_digest(
        self, name: ImageName, login: Login, kind: str, digest: str, at_most_bytes: int
    ) -> bytes:
        accept = ACCEPTED if kind == "manifests" else ""
        reply = await self._fetch.ask(
            name, login, f"{kind}/{digest}", accept=accept, at_most_bytes=at_most_bytes
        )
        if digest_of(reply.content) != digest:
            raise bad_answer(name, "content that does not have the digest asked for")
        return reply.content
