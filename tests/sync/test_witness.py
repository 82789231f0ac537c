"""Asking others to knock at our ports: what they say, and what is no testimony at all."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trionode.lifecycle.dos import Knock
from trionode.sync.source import HttpBody, SourceError
from trionode.sync.witness import PortWitness, PortWord, ReachWitness
from trionode.wire.jsjson import stringify
from trionode.wire.keys import NodeKey
from trionode.wire.signing import verify_message

KEY = NodeKey.generate(random.Random(3))


class Remote:
    """A node that gives one body, after a while if wanted; None: it refuses the connection."""

    def __init__(self, body: bytes | None, pause_s: float = 0) -> None:
        self.body, self.pause_s = body, pause_s
        self.asked: list[tuple[str, int, str, bytes]] = []

    @asynccontextmanager
    async def get(self, ip: str, port: int, path: str) -> AsyncIterator[HttpBody]:
        async with self.post(ip, port, path, b"") as body:
            yield body

    @asynccontextmanager
    async def post(self, ip: str, port: int, path: str, body: bytes) -> AsyncIterator[HttpBody]:
        self.asked.append((ip, port, path, body))
        if self.body is None:
            raise SourceError("refused")
        yield HttpBody(200, "", self._pieces(self.body))

    async def _pieces(self, body: bytes) -> AsyncGenerator[bytes, None]:
        await trio.sleep(self.pause_s)
        yield body


def told(status: str, message: Any) -> bytes:
    return json.dumps({"status": status, "data": {"message": message}}).encode()


YES = told("success", "Asking Flux is available")
PORTS_YES = told("success", "Flux Applications on 9.0.0.1:16127 are available.")
PORTS_NO = told("error", "Flux Applications on 9.0.0.1 are not available. Failed port: 31001")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("remote", "said"),
    [
        (Remote(YES), Knock.REACHED),
        (Remote(b'{"status":"success","data":"Asking Flux is available"}'), Knock.REACHED),
        (Remote(told("success", "Asking Flux is not available")), Knock.SHUT),
        (Remote(told("error", "Asking Flux 9.0.0.1 is not available")), Knock.SHUT),
        (Remote(told("error", None)), Knock.SHUT),
        (Remote(None), Knock.SILENT),
        (Remote(YES, pause_s=8), Knock.SILENT),
        (Remote(b"<html>"), Knock.SILENT),
        (Remote(b"[]"), Knock.SILENT),
        (Remote(b'{"data":1}'), Knock.SILENT),
        (Remote(b"x" * 100_000), Knock.SILENT),
    ],
)
async def test_what_is_said_of_the_node(remote: Remote, said: Knock, autojump_clock: MockClock) -> None:
    assert await ReachWitness(remote, 7.0).reaches_us("1.1.1.1", 16137, "9.0.0.1", 16127) is said
    assert remote.asked == [("1.1.1.1", 16137, "/flux/checkfluxavailability?ip=9.0.0.1&port=16127", b"")]


async def ask(remote: Remote) -> PortWord:
    return await PortWitness(remote, KEY).reaches_ports(
        "1.1.1.1", 16127, own_ip="9.0.0.1", own_port=16137, ports=(31000, 31001), timeout_s=30
    )


@pytest.mark.trio
@pytest.mark.parametrize(
    ("remote", "word"),
    [
        (Remote(PORTS_YES), PortWord(Knock.REACHED)),
        (Remote(PORTS_NO), PortWord(Knock.SHUT, 31001)),
        (Remote(told("error", "Unauthorized. Access denied.")), PortWord(Knock.SILENT)),
        (Remote(told("error", "Failed port: none")), PortWord(Knock.SILENT)),
        (Remote(told("warning", "Failed port: 31000")), PortWord(Knock.SILENT)),
        (Remote(None), PortWord(Knock.SILENT)),
        (Remote(PORTS_YES, pause_s=31), PortWord(Knock.SILENT)),
        (Remote(b"{"), PortWord(Knock.SILENT)),
    ],
)
async def test_what_is_said_of_ports(remote: Remote, word: PortWord, autojump_clock: MockClock) -> None:
    assert await ask(remote) == word


@pytest.mark.trio
async def test_the_question_is_signed_over_its_members_in_order() -> None:
    remote = Remote(PORTS_YES)
    await ask(remote)
    ((_, _, path, body),) = remote.asked
    assert path == "/flux/checkappavailability"
    sent = json.loads(body)
    assert list(sent) == ["ip", "port", "appname", "ports", "pubKey", "signature"]
    signature = sent.pop("signature")
    assert verify_message(stringify(sent), KEY.public_key, signature)
    assert sent["ports"] == [31000, 31001]
