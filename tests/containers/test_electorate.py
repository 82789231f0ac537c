"""What counts as an answer of a domain manager or a node, and what as silence."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio

from trionode.containers.monitors.electorate import HttpElectorate
from trionode.runtime.counters import Counters
from trionode.sync.source import HttpBody, SourceError

URL = "http://fdm-fn-1-1.example:16130/appips/web"


class OneNode:
    """Answers every GET with one body."""

    def __init__(self, body: bytes | None) -> None:
        self.body = body

    @asynccontextmanager
    async def get(self, ip: str, port: int, path: str) -> AsyncIterator[HttpBody]:
        if self.body is None:
            raise SourceError("not there")

        async def pieces() -> AsyncGenerator[bytes, None]:
            yield self.body or b""

        yield HttpBody(200, "", pieces())


class OneBody(httpx.AsyncByteStream):
    """A body as it comes over the wire."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


async def asked(status: int, body: bytes) -> tuple[object, Counters]:
    counters = Counters()
    transport = httpx.MockTransport(lambda request: httpx.Response(status, stream=OneBody(body)))
    async with httpx.AsyncClient(transport=transport) as client:
        return await HttpElectorate(client, OneNode(None), counters).listed(URL), counters


@pytest.mark.trio
@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"status":"success","data":{"ips":["1.2.3.4:16127"]}}', ["1.2.3.4:16127"]),
        (200, b'{"status":"success","data":["1.2.3.4"]}', ["1.2.3.4"]),
        (200, b'["1.2.3.4"]', ["1.2.3.4"]),
        (200, b"[]", []),
        (200, b'{"status":"success","data":{"ips":[]}}', []),
        (404, b"no such app", []),
        (200, b'{"status":"error","data":{"ips":[]}}', None),
        (200, b"<html>", None),
        (200, b"[1]", None),
        (200, b'{"status":"success","data":null}', None),
        (200, b'{"status":"success","data":{"ips":{"1.2.3.4":1}}}', None),
        (200, b'{"status":["success"],"data":[]}', None),
        (200, b'{"ips":["1.2.3.4"]}', ["1.2.3.4"]),
        (200, b"[" * 100_000, None),
        (500, b"[]", None),
    ],
)
async def test_only_a_clear_answer_is_one(status: int, body: bytes, expected: list[str] | None) -> None:
    answer, counters = await asked(status, body)
    assert answer == expected
    assert counters["containers.election.no_answer.manager"] == (expected is None)


@pytest.mark.trio
async def test_a_node_names_what_it_runs() -> None:
    rows = [{"Names": ["/fluxweb_shop"]}, {"Names": ["/zelold"]}]
    document = json.dumps({"status": "success", "data": rows}).encode()
    async with httpx.AsyncClient() as client:
        electorate = HttpElectorate(client, OneNode(document), Counters())
        assert await electorate.running("192.0.2.1:16127") == ["fluxweb_shop", "zelold"]


@pytest.mark.trio
@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"{}",
        b'{"status":"error","data":[]}',
        b'{"status":7,"data":[]}',
        b'{"status":"success","data":[{"Names":5}]}',
        b'{"status":"success","data":[{"Names":{"a":1}}]}',
        b'{"status":"success","data":[{"Names":[7]}]}',
        b'{"status":"success","data":[7]}',
        b"[" * 100_000,
    ],
)
async def test_a_node_that_says_nothing_of_use_is_silent(body: bytes | None) -> None:
    counters = Counters()
    async with httpx.AsyncClient() as client:
        assert await HttpElectorate(client, OneNode(body), counters).running("192.0.2.1") is None
    assert counters["containers.election.no_answer.node"] == 1


@pytest.mark.trio
@pytest.mark.parametrize("address", ["", ":", "1.2.3.4:x", "1.2.3.4:16127:1"])
async def test_what_is_no_address_does_not_answer(address: str) -> None:
    async with httpx.AsyncClient() as client:
        assert await HttpElectorate(client, OneNode(b"[]"), Counters()).running(address) is None


@pytest.mark.trio
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_an_answer_without_end_is_none(encoding: str) -> None:
    """Nor is one that grows when it is unpacked: none was asked for."""
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 40:
            sent += 1
            await trio.lowlevel.checkpoint()
            yield b" " * (1 << 20)

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        if encoding == "gzip":
            body = gzip.compress(b'["' + b"0" * (1 << 26) + b'"]')
            return httpx.Response(200, stream=OneBody(body), headers={"Content-Encoding": "gzip"})
        return httpx.Response(200, content=pieces())

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        assert await HttpElectorate(client, OneNode(None), Counters()).listed(URL) is None
    assert sent <= 6
