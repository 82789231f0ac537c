"""The peer stub on real sockets: our own link, signed requests and answers, its control port."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from trionode.config.tree import PeerSettings
from trionode.peers.link import Hello, Link
from trionode.peers.ws import WsTransport
from trionode.sim.minihttp import StubRequest
from trionode.sim.stub_peer import CAPABILITIES, PeerStub, main, run_peer_stub
from trionode.wire.envelope import decode_envelope, seal
from trionode.wire.jsjson import parse
from trionode.wire.keys import NodeKey
from trionode.wire.origin import is_signed

KEY = NodeKey.generate(random.Random(1))
ASKER = NodeKey.generate(random.Random(2))
MESSAGE = {"type": "fluxappregister", "version": 1, "hash": "ab" * 32}
NOW_MS = 1_700_000_000_000


async def control(stub: PeerStub, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    content = b"" if body is None else msgspec.json.encode(body)
    reply = await stub.control(StubRequest(method, tuple(path.split("/")), {}, content, "127.0.0.1", {}))
    return reply.status, msgspec.json.decode(reply.body)


async def ask(transport: WsTransport, link: Link, data: dict[str, Any]) -> None:
    await link.send(transport.prepare(seal(data, ASKER, NOW_MS).text))


@pytest.mark.trio
async def test_it_serves_the_messages_it_was_given() -> None:
    stub = PeerStub(KEY)
    assert await control(stub, "POST", "load-message", MESSAGE) == (200, {"loaded": 1})
    async with trio.open_nursery() as nursery:
        port, _ = await nursery.start(run_peer_stub, stub, "127.0.0.1", 0, 0)
        transport = WsTransport(PeerSettings(), bind_host="127.0.0.1")
        async with transport.dial("127.0.0.1", port, Hello(), own_port=16127) as link:
            assert link.remote_hello.capabilities == frozenset(CAPABILITIES.split(","))
            assert (link.remote_hello.version, link.remote_hello.uptime_s) == ("8.0.0", 1000)
            hashes = ["cd" * 32, MESSAGE["hash"]]
            await ask(transport, link, {"type": "fluxapprequest", "version": 2, "hashes": hashes})
            await ask(transport, link, {"type": "fluxapprequest", "version": 1, "hash": MESSAGE["hash"]})
            for _ in range(2):
                answer = decode_envelope(parse(await receive_text(link)))
                assert is_signed(answer)
                assert answer.pub_key == KEY.public_key
                assert answer.data == MESSAGE
        nursery.cancel_scope.cancel()
    stats = stub.stats()
    assert (stats["connectionsReceived"], stats["requestsReceived"], stats["messagesServed"]) == (1, 2, 2)
    assert stats["requestLog"][0] == {"from": ASKER.public_key, "hashes": hashes, "found": 1}
    await control(stub, "POST", "clear")
    assert stub.stats()["messagesLoaded"] == 0


async def receive_text(link: Link) -> str:
    with trio.fail_after(60):
        received = await link.receive()
    assert isinstance(received, str)
    return received


@pytest.mark.trio
async def test_unsigned_questions_and_other_messages_get_nothing() -> None:
    stub = PeerStub(KEY)
    await control(stub, "POST", "load-message", MESSAGE)
    request = {"type": "fluxapprequest", "version": 1, "hash": MESSAGE["hash"]}
    forged = msgspec.json.encode(
        {"version": 1, "timestamp": NOW_MS, "pubKey": ASKER.public_key, "signature": "AAAA", "data": request}
    ).decode()
    for text in ("no JSON", forged, seal({"type": "fluxapprunning"}, ASKER, NOW_MS).text):
        assert stub._answers(text) == []
    assert stub.stats()["requestsReceived"] == 0


@pytest.mark.trio
async def test_its_control_refuses_what_it_does_not_know() -> None:
    stub = PeerStub(KEY)
    assert await control(stub, "GET", "health") == (200, {"ok": True})
    assert (await control(stub, "POST", "load-message", {"type": "x"}))[0] == 400
    assert (await control(stub, "GET", "nothing"))[0] == 404


def test_a_missing_key_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--key-file", str(tmp_path / "none")]) == 1
    assert "none" in capsys.readouterr().err
