"""HttpStorage: environment and commands that an owner keeps on a server of his own (lifecycle.md §13).

`F_S_ENV=url` and `F_S_CMD=url` are asked with a signature of this node, so that the server can answer nodes
only. The answer is secret and unbounded in principle: it is read up to a limit and never written anywhere.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol, cast
from urllib.parse import urlsplit

import httpx
import trio

from trionode.errors import HostError, WireError
from trionode.plans.environment import Fetched
from trionode.runtime.clock import WallClock
from trionode.wire.jsjson import parse

TIMEOUT_S = 20.0
SCHEMES = ("http", "https")


class StorageError(HostError):
    """What an owner keeps elsewhere could not be fetched. Neither query nor answer is named."""

    code = "storage"


class Signer(Protocol):
    """Signs with the key of the node (`wire.keys.NodeKey`)."""

    def sign(self, message: str) -> str: ...


class HttpStorage:
    """`Storage` over HTTP. `client` is shared with others; redirects are followed by it or not."""

    def __init__(
        self, client: httpx.AsyncClient, signer: Signer, clock: WallClock, *, limit_bytes: int
    ) -> None:
        self._client = client
        self._signer = signer
        self._clock = clock
        self._limit_bytes = limit_bytes

    async def fetch(self, url: str, *, app: str) -> Fetched:
        """See `lifecycleports.Storage`. Raises StorageError."""
        place = _place(url)
        message = f"1{url}{self._clock.now_ms()}"
        headers = {
            "flux-message": message,
            "flux-signature": self._signer.sign(message),
            "flux-app": app,
        }
        with trio.move_on_after(TIMEOUT_S):
            return Fetched(_document(await self._read(url, place, headers), place))
        raise StorageError(f"{place} did not answer within {TIMEOUT_S:g} s", remedy="see whether it runs")

    async def _read(self, url: str, place: str, headers: dict[str, str]) -> bytes:
        try:
            async with self._client.stream("GET", url, headers=headers, timeout=TIMEOUT_S) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise StorageError(
                        f"{place} answered {answer.status_code}", remedy="see what it answers a node"
                    )
                return await self._body(answer, place)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # the text of the error may hold the whole address with its query
            raise StorageError(
                f"{place} could not be asked: {type(error).__name__}", remedy="see whether it runs"
            ) from None

    async def _body(self, answer: httpx.Response, place: str) -> bytes:
        body = bytearray()
        async with aclosing(cast("AsyncGenerator[bytes, None]", answer.aiter_bytes())) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) > self._limit_bytes:
                    raise StorageError(
                        f"{place} answered more than {self._limit_bytes} bytes",
                        remedy="keep less there, or raise installer.storage_limit_bytes",
                    )
        return bytes(body)


def _place(url: str) -> str:
    """Host of an address: all of it that may be told. Raises StorageError."""
    try:
        parts = urlsplit(url)
        if parts.scheme in SCHEMES and parts.hostname:
            return f"the storage at {parts.hostname}"
    except ValueError:
        pass  # told below, like any other text that is no address
    raise StorageError("the storage of the app is not an http address", remedy="correct F_S_ENV or F_S_CMD")


def _document(body: bytes, place: str) -> object:
    try:
        return parse(body.decode("utf-8"))
    except (UnicodeDecodeError, WireError):
        raise StorageError(f"{place} did not answer with JSON", remedy="see what it answers") from None
