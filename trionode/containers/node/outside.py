"""Asking outside services over HTTP and HTTPS: small JSON documents, bounded in size and time.

For the services of docs/spec/config.md §2 (address look-up, published lists).
"""

from __future__ import annotations

from typing import Any, Protocol

import httpx
import msgspec
import trio

from trionode.containers.node.shortbody import PLAIN, within_bytes
from trionode.errors import TrionodeError

BODY_LIMIT_BYTES = 4 * 1024 * 1024


class OutsideError(TrionodeError):
    """An outside service did not give what it was asked for."""

    code = "outside"


class JsonSource(Protocol):
    """Documents of outside services."""

    async def get_json(self, url: str) -> Any:
        """The JSON value at a URL. Raises OutsideError."""
        ...


class OutsideHttp:
    """`JsonSource` over the internet. `client` is shared with others; `timeout_s` bounds a whole answer."""

    def __init__(self, client: httpx.AsyncClient, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    async def get_json(self, url: str) -> Any:
        """See `JsonSource.get_json`."""
        body: bytes | None = None
        with trio.move_on_after(self._timeout_s):
            try:
                body = await self._read(url)
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                raise _failed(url, str(error) or type(error).__name__) from error
        if body is None:
            raise _failed(url, f"no answer within {self._timeout_s:g} s")
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _failed(url, "the answer is no JSON") from error

    async def _read(self, url: str) -> bytes:
        headers = {"Accept": "application/json", **PLAIN}
        async with self._client.stream("GET", url, headers=headers, timeout=self._timeout_s) as answer:
            body = await within_bytes(answer, BODY_LIMIT_BYTES)
        if answer.status_code != httpx.codes.OK:
            raise _failed(url, f"it answered with status {answer.status_code}")
        if body is None:
            raise _failed(url, "the answer is too long")
        return body


def _failed(url: str, why: str) -> OutsideError:
    return OutsideError(f"{url}: {why}", remedy="it is asked again later")
