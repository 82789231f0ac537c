"""Asks domain managers and other nodes for an election, over HTTP (docs/spec/lifecycle.md §17).

A manager answers `{"status": "success", "data": {"ips": [...]}}`, a plain list, or 404; anything else is
no answer, because a mistaken "nobody" would start an app twice.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import httpx
import msgspec
import trio

from trionode.lifecycle.names import bare
from trionode.runtime.counters import Counters
from trionode.sync.source import PeerHttp, SourceError
from trionode.sync.wholebody import whole_body
from trionode.wire.address import split_address

ANSWER_S = 10.0
ANSWER_BYTES = 1 << 22
RUNNING_PATH = "/apps/listrunningapps"


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
        with trio.move_on_after(ANSWER_S):
            answer = await self._node_says(*split_address(address))
        if answer is None:
            self._counters.add("containers.election.no_answer.node")
        return answer

    async def _manager_says(self, url: str) -> list[str] | None:
        try:
            answer = await self._client.get(url)
        except httpx.HTTPError:
            return None
        if answer.status_code == httpx.codes.NOT_FOUND:
            return []
        return _addresses(answer.content) if answer.status_code == httpx.codes.OK else None

    async def _node_says(self, ip: str, port: int) -> list[str] | None:
        try:
            async with self._peers.get(ip, port, RUNNING_PATH) as answer:
                body = await whole_body(answer, ANSWER_BYTES)
        except SourceError:
            return None
        return None if body is None or answer.status != httpx.codes.OK else _names(body)


def _addresses(body: bytes) -> list[str] | None:
    found = _data(body)
    if isinstance(found, dict):
        found = found.get("ips")
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        return None
    return found


def _names(body: bytes) -> list[str] | None:
    rows = _data(body)
    if not isinstance(rows, list):
        return None
    return [bare(row["Names"][0]) for row in rows if isinstance(row, dict) and row.get("Names")]


def _data(body: bytes) -> Any:
    """The `data` of a success answer, or the whole document when it has no envelope."""
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    if not isinstance(document, dict) or "status" not in document:
        return document
    return document.get("data") if document["status"] == "success" else None
