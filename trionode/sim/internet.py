"""What the nodes of a world find on the internet: image registries, domain managers, lists, address look-up.

The clients of the nodes are the real ones, on a transport that answers from values (docs/spec/lifecycle.md
§11, §12, §17, registry.md §6). Everything can be changed at any time, and be made to fail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
import msgspec
import trio

from trionode.containers.images.memory import EVERYTHING, MemoryImageRegistry
from trionode.containers.images.registry import ImageFault
from trionode.containers.memory.objects import RegistryImage

MANAGER_HOST = "fdm-"
ANSWER_S = 0.05


class Internet:
    """Shared by all nodes of a world. `serving` tells domain managers where a `g:` app answers."""

    def __init__(self) -> None:
        self.images: dict[str, RegistryImage] = {}
        """What engines can pull, by name."""
        self.registries = MemoryImageRegistry()
        """What nodes are told of images before they pull them."""
        self.serving: Callable[[str], Sequence[str]] = lambda app: ()
        self.silent: set[str] = set()
        """Hosts that do not answer, by the beginning of their names."""
        self.blocked: list[str] = []
        self.vetted: list[str] = []
        self.places: dict[str, dict[str, Any]] = {}
        """What the address look-up says beside the usual, by IP."""
        self.storage: dict[str, Any] = {}
        """Documents of owners, by URL."""
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self._answer), trust_env=False)

    # --- what scenarios do ----------------------------------------------------------------------

    def push(self, repotag: str, *, broken: bool = False) -> str:
        """A new image under this name; its digest. `broken`: registries describe it, nobody can pull it."""
        digest = self.registries.push(repotag)
        if broken:
            self.images.pop(repotag, None)
        else:
            self.images[repotag] = RegistryImage(digest=digest)
        return digest

    def registries_fail(self, fault: ImageFault | None) -> None:
        """All image registries answer so; None: as usual again."""
        if fault is None:
            self.registries.faults.pop(EVERYTHING, None)
        else:
            self.registries.faults[EVERYTHING] = fault

    # --- what nodes are answered ----------------------------------------------------------------

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        host, path = request.url.host, request.url.path
        await trio.sleep(ANSWER_S)
        if any(host.startswith(silent) for silent in self.silent):
            raise httpx.ConnectError(f"{host} does not answer", request=request)
        if host.startswith(MANAGER_HOST):
            found = list(self.serving(path.rpartition("/")[2]))
            return _json({"status": "success", "data": {"ips": found}}) if found else _missing()
        if path.startswith("/json/"):
            return _json(self._place(path.rpartition("/")[2]))
        if path.endswith("/blockedrepositories.json"):
            return _json(self.blocked)
        if path.endswith("/vettedrepositories.json"):
            return _json(self.vetted)
        document = self.storage.get(str(request.url))
        return _missing() if document is None else _json(document)

    def _place(self, ip: str) -> dict[str, Any]:
        return {
            "status": "success",
            "continent": "Europe",
            "continentCode": "EU",
            "country": "Germany",
            "countryCode": "DE",
            "region": "HE",
            "regionName": "Hesse",
            "lat": 50.1,
            "lon": 8.7,
            "query": ip,
            "isp": "a provider",
            "hosting": False,
            **self.places.get(ip, {}),
        }


def _json(document: Any) -> httpx.Response:
    return httpx.Response(200, stream=_Body(msgspec.json.encode(document)))


def _missing() -> httpx.Response:
    return httpx.Response(404, stream=_Body(b""))


class _Body(httpx.AsyncByteStream):
    """An answer that is read piece by piece, as from a socket."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield self._content
