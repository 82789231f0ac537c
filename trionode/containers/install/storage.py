"""HttpStorage: environment and commands that an owner keeps on a server of his own (lifecycle.md §13).

`F_S_ENV=url` and `F_S_CMD=url` are asked with a signature of this node, so that the server can answer nodes
only. The answer is secret and unbounded in principle: it is read up to a limit and never written anywhere. An
owner cannot send this node into its own network (`containers.node.publichosts`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol, cast
from urllib.parse import urlsplit

import httpx
import trio

from trionode.containers.install.troubles import StorageAway, StorageError
from trionode.containers.node.publichosts import Hosts, NotFoundNow, NotPublic
from trionode.errors import WireError
from trionode.plans.environment import Fetched
from trionode.runtime.clock import WallClock
from trionode.wire.jsjson import parse

TIMEOUT_S = 20.0
SCHEMES = ("http", "https")


class Signer(Protocol):
    """Signs with the key of the node (`wire.keys.NodeKey`)."""

    def sign(self, message: str) -> str: ...


class HttpStorage:
    """`Storage` over HTTP; redirects are not followed. `hosts` None: hosts are asked wherever they are."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        signer: Signer,
        clock: WallClock,
        *,
        limit_bytes: int,
        hosts: Hosts | None = None,
    ) -> None:
        self._client = client
        self._signer = signer
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._hosts = hosts

    async def fetch(self, url: str, *, app: str) -> Fetched:
        """See `workbench.Storage`. Raises StorageError."""
        target, place = _target(url)
        message = f"1{url}{self._clock.now_ms()}"
        headers = {
            "flux-message": message,
            "flux-signature": self._signer.sign(message),
            "flux-app": app,
        }
        with trio.move_on_after(TIMEOUT_S):
            return Fetched(_document(await self._read(target, place, headers), place))
        raise StorageAway(f"{place} did not answer within {TIMEOUT_S:g} s", remedy="see whether it runs")

    async def _read(self, target: httpx.URL, place: str, headers: dict[str, str]) -> bytes:
        """From the first of its addresses that lets us in."""
        problem: StorageError | None = None
        for request in await self._requests(target, place, headers):
            try:
                return await self._ask(request, place)
            except httpx.HTTPError as error:
                # the text of the error may hold the whole address with its query
                problem = StorageAway(
                    f"{place} could not be asked: {type(error).__name__}", remedy="see whether it runs"
                )
                if not isinstance(error, httpx.ConnectError):
                    break
        assert problem is not None, "a host has at least one address"
        raise problem

    async def _requests(self, target: httpx.URL, place: str, headers: dict[str, str]) -> list[httpx.Request]:
        """One for each address of its host: names are looked up here, and only what was judged is asked."""
        try:
            if self._hosts is None:
                return [self._client.build_request("GET", target, headers=headers, timeout=TIMEOUT_S)]
            port = target.port or (443 if target.scheme == "https" else 80)
            named = headers | {"Host": target.netloc.decode("ascii"), "Connection": "close"}
            return [
                self._client.build_request(
                    "GET",
                    target.copy_with(host=address),
                    headers=named,
                    timeout=TIMEOUT_S,
                    extensions={"sni_hostname": target.raw_host.decode("ascii")},
                )
                for address in await self._hosts.addresses(target.host, port)
            ]
        except NotFoundNow as error:
            raise StorageAway(f"{place} cannot be asked: {error.message}", remedy=error.remedy) from None
        except NotPublic as error:
            raise StorageError(f"{place} is not asked: {error.message}", remedy=error.remedy) from None
        except (ValueError, httpx.InvalidURL):
            raise _no_address() from None

    async def _ask(self, request: httpx.Request, place: str) -> bytes:
        try:
            answer = await self._client.send(request, stream=True, follow_redirects=False)
        except (ValueError, httpx.InvalidURL):
            raise _no_address() from None
        try:
            if answer.status_code != httpx.codes.OK:
                kind = StorageAway if _has_trouble(answer.status_code) else StorageError
                raise kind(f"{place} answered {answer.status_code}", remedy="see what it answers a node")
            return await self._body(answer, place)
        finally:
            await answer.aclose()

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


def _has_trouble(status: int) -> bool:
    """Whether such an answer is about the server and not about what it was asked for."""
    return status >= httpx.codes.INTERNAL_SERVER_ERROR or status in (
        httpx.codes.REQUEST_TIMEOUT,
        httpx.codes.TOO_MANY_REQUESTS,
    )


def _target(url: str) -> tuple[httpx.URL, str]:
    """An address as httpx has it, and all of it that may be told: its host. Raises StorageError."""
    try:
        urlsplit(url)  # is stricter about brackets
        target = httpx.URL(url)
        if target.scheme in SCHEMES and target.host:
            return target, f"the storage at {target.host}"
    except (ValueError, httpx.InvalidURL):
        pass  # told below, like any other text that is no address
    raise _no_address()


def _no_address() -> StorageError:
    return StorageError(
        "the storage of the app is not an http address that can be asked", remedy="correct F_S_ENV or F_S_CMD"
    )


def _document(body: bytes, place: str) -> object:
    try:
        return parse(body.decode("utf-8"))
    except (UnicodeDecodeError, WireError, RecursionError):
        raise StorageError(f"{place} did not answer with JSON", remedy="see what it answers") from None
