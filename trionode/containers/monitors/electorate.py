"""Asks domain managers and other nodes for an election, over HTTP (docs/spec/lifecycle.md §17).

A manager answers `{"status": "success", "data": {"ips": [...]}}`, a plain list, or 404; anything else is
no answer, because a mistaken "nobody" would start an app twice.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Annotated, TypeVar

import httpx
import msgspec
import trio

from trionode.containers.node.shortbody import PLAIN, within_bytes
from trionode.lifecycle.names import bare
from trionode.runtime.counters import Counters
from trionode.sync.source import PeerHttp, SourceError
from trionode.sync.wholebody import whole_body
from trionode.wire.address import AddressError, split_address

ANSWER_S = 10.0
ANSWER_BYTES = 1 << 22
RUNNING_PATH = "/apps/listrunningapps"

T = TypeVar("T")


class _Envelope(msgspec.Struct, frozen=True):
    """`status` None: there is no envelope, the document is the data."""

    status: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Listed(msgspec.Struct, frozen=True):
    """Of a manager: who runs an app."""

    ips: list[str]


class _Row(msgspec.Struct, frozen=True):
    """Of a node: a container that runs."""

    names: Annotated[list[str], msgspec.Meta(max_length=64)] = msgspec.field(
        name="Names", default_factory=list
    )


class HttpElectorate:
    """`Electorate` of the real world. `client` is opened and closed by whoever composes the node."""

    def __init__(self, client: httpx.AsyncClient, peers: PeerHttp, counters: Counters) -> None:
        self._client = client
        self._peers = peers
        self._counters = counters

    async def listed(self, url: str) -> Collection[str] | None:
        """See `Electorate.listed`."""
        answer = None
        with trio.move_on_after(ANSWER_S):
            answer = await self._manager_says(url)
        if answer is None:
            self._counters.add("containers.election.no_answer.manager")
        return answer

    async def running(self, address: str) -> Collection[str] | None:
        """See `Electorate.running`."""
        answer = None
        with suppress(AddressError), trio.move_on_after(ANSWER_S):
            answer = await self._node_says(*split_address(address))
        if answer is None:
            self._counters.add("containers.election.no_answer.node")
        return answer

    async def _manager_says(self, url: str) -> list[str] | None:
        try:
            async with self._client.stream("GET", url, headers=PLAIN) as answer:
                body = await within_bytes(answer, ANSWER_BYTES)
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        if body is None or answer.status_code != httpx.codes.OK:
            return None
        return _addresses(body)

    async def _node_says(self, ip: str, port: int) -> list[str] | None:
        try:
            async with self._peers.get(ip, port, RUNNING_PATH) as answer:
                body = await whole_body(answer, ANSWER_BYTES)
        except SourceError:
            return None
        return None if body is None or answer.status != httpx.codes.OK else _names(body)


def _addresses(body: bytes) -> list[str] | None:
    data = _data(body)
    found = _read(data, list[str]) if data[:1] == b"[" else _read(data, _Listed)
    return found.ips if isinstance(found, _Listed) else found


def _names(body: bytes) -> list[str] | None:
    rows = _read(_data(body), list[_Row])
    return None if rows is None else [bare(row.names[0]) for row in rows if row.names]


def _data(body: bytes) -> bytes:
    """The `data` of a success answer, or the whole document when it has no envelope; empty: no answer."""
    body = body.strip()
    envelope = _read(body, _Envelope) if body[:1] == b"{" else _Envelope()
    if envelope is None:
        return b""
    if envelope.status is None:
        return body
    return bytes(envelope.data) if envelope.status == "success" else b""


def _read(text: bytes, form: type[T]) -> T | None:
    """Whoever answers may answer anything: what has not this form throughout is no answer."""
    try:
        return msgspec.json.decode(text, type=form)
    except (msgspec.DecodeError, RecursionError):
        return None
