"""What nodes of the simulated world ask each other over HTTP: the twin of `sync.source.HttpSource`.

It answers as a node's own routes do, from that node's explorer and registry store, along the paths of the
virtual network: a node that is down refuses, one behind a partition is never heard. `manners` lets single
nodes stall, break off, or serve messages with one letter changed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Literal, TypeAlias, cast

import trio

from trionode.chain.explorer import Explorer
from trionode.containers.monitors.electorate import RUNNING_PATH
from trionode.registry.rows import PermanentRow
from trionode.sim.network import VirtualNetwork
from trionode.store.registry_port import RegistryStore
from trionode.sync.source import HttpBody, SourceError
from trionode.sync.witness import PORTS_PATH, REACH_PATH
from trionode.wire.jsjson import utf8

Manner: TypeAlias = Literal["stall", "break", "lie"]

PIECE_ROWS = 50
PIECE_S = 0.01
"""A piece of this many messages takes so long: a list is read within virtual time, not beside it."""


class SimHttp:
    """Answers of all nodes of a world. `look_up` gives explorer and store of the node at an address.

    `status_of`: what the daemon of the node with this IP says of it, None when it says nothing.
    """

    def __init__(
        self,
        network: VirtualNetwork,
        look_up: Callable[[str, int], tuple[Explorer, RegistryStore] | None],
        status_of: Callable[[str], str | None] = lambda ip: None,
    ) -> None:
        self._network = network
        self._look_up = look_up
        self._status_of = status_of
        self.port_answers: Callable[[str, int], bool] = lambda ip, port: True
        """Whether anybody accepts connections at an address: what testers of ports find."""
        self.containers_of: Callable[[str], Sequence[str]] = lambda ip: ()
        """Names of the containers that run on the machine with this IP."""
        self.manners: dict[str, Manner] = {}
        """Bad manners by IP address."""
        self.asked: list[tuple[str, str, str]] = []
        """(who, whom, path), in order."""

    def of(self, ip: str) -> SimSource:
        """The source of the node with this IP address."""
        return SimSource(self, ip)

    async def answer(
        self, asker: str, ip: str, port: int, path: str, posted: bytes = b""
    ) -> AsyncGenerator[bytes, None]:
        """The body of an answer. Raises SourceError when nobody listens."""
        self.asked.append((asker, ip, path))
        await trio.lowlevel.checkpoint()
        if self._network.blocked(asker, ip) is not None or self._network.blocked(ip, asker) is not None:
            await trio.sleep_forever()
        found = self._look_up(ip, port) if self._network.is_up(ip) else None
        if found is None:
            raise SourceError(f"cannot talk to {ip}:{port}: connection refused", remedy="ask another peer")
        explorer, store = found
        if path == "/explorer/issynced":
            yield b'{"status":"success","data":' + (b"true" if explorer.is_synced else b"false") + b"}"
        elif path == "/daemon/getfluxnodestatus":
            status = self._status_of(ip)
            yield json.dumps(
                {"status": "error", "data": {"message": "the daemon does not answer"}}
                if status is None
                else {"status": "success", "data": {"status": status}}
            ).encode()
        elif path.partition("?")[0] == REACH_PATH:
            reached = self._network.is_up(asker) and self._network.blocked(ip, asker) is None
            word = "success" if reached else "error"
            yield json.dumps({"status": word, "data": {"message": f"{word} of asking"}}).encode()
        elif path == PORTS_PATH:
            yield _tested(json.loads(posted), self.port_answers)
        elif path == RUNNING_PATH:
            rows = [{"Names": [f"/{name}"]} for name in self.containers_of(ip)]
            yield json.dumps({"status": "success", "data": rows}).encode()
        elif path == "/apps/permanentmessages":
            async with aclosing(self._list(asker, ip, store)) as pieces:
                async for piece in pieces:
                    yield piece
        else:
            yield b'{"status":"error","data":{"message":"no such route"}}'

    async def _list(self, asker: str, ip: str, store: RegistryStore) -> AsyncGenerator[bytes, None]:
        yield b'{"status":"success","data":['
        manner = self.manners.get(ip)
        if manner == "stall":
            await trio.sleep_forever()
        comma = ""
        piece: list[str] = []
        rows = cast("AsyncGenerator[PermanentRow, None]", store.stream_permanents())
        async with aclosing(rows):
            async for row in rows:
                text = row.json_text()
                if manner == "lie":
                    text = text.replace('"timestamp":', '"timestamp":1', 1)
                piece.append(comma + text)
                comma = ","
                if len(piece) == PIECE_ROWS:
                    yield utf8("".join(piece))
                    piece.clear()
                    await trio.sleep(PIECE_S)
                    if self._network.blocked(ip, asker) is not None:
                        await trio.sleep_forever()
                    if manner == "break":
                        return
        yield utf8("".join(piece)) + b"]}"


def _tested(body: dict[str, Any], answers: Callable[[str, int], bool]) -> bytes:
    """What a node says of ports it was asked to knock at (docs/spec/api.md §6); it trusts the signature."""
    shut = next((port for port in body["ports"] if not answers(body["ip"], port)), None)
    if shut is None:
        text = f"Flux Applications on {body['ip']}:{body['port']} are available."
        return json.dumps({"status": "success", "data": {"message": text}}).encode()
    text = f"Flux Applications on {body['ip']} are not available. Failed port: {shut}"
    return json.dumps({"status": "error", "data": {"message": text}}).encode()


class SimSource:
    """`NodeHttp` of one node of the world."""

    def __init__(self, http: SimHttp, ip: str) -> None:
        self._http = http
        self._ip = ip

    def get(self, ip: str, port: int, path: str) -> AbstractAsyncContextManager[HttpBody]:
        return self._ask(ip, port, path)

    def post(self, ip: str, port: int, path: str, body: bytes) -> AbstractAsyncContextManager[HttpBody]:
        return self._ask(ip, port, path, body)

    @asynccontextmanager
    async def _ask(self, ip: str, port: int, path: str, posted: bytes = b"") -> AsyncIterator[HttpBody]:
        pieces = self._http.answer(self._ip, ip, port, path, posted)
        try:
            first = await anext(pieces)
            yield HttpBody(200, "", _with(first, pieces))
        finally:
            await pieces.aclose()


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield first
    async for piece in rest:
        yield piece
