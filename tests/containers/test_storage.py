"""Environment and commands kept by an owner: asked signed, read up to a limit (lifecycle.md §13)."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import httpx
import pytest
import trio

from trionode.containers.install.storage import HttpStorage, StorageError
from trionode.runtime.clock import VirtualClock
from trionode.wire.keys import NodeKey
from trionode.wire.signing import verify_message

pytestmark = pytest.mark.trio

URL = "https://storage.test/env?token=very-secret"
Answer = Callable[[httpx.Request], httpx.Response]


class Key:
    def sign(self, message: str) -> str:
        return f"signed({message})"


class Slow(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(100)
        return httpx.Response(200, json=[])


async def fetch(answer: Answer | httpx.AsyncBaseTransport, url: str = URL, limit: int = 1024) -> object:
    transport = answer if isinstance(answer, httpx.AsyncBaseTransport) else httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport) as client:
        storage = HttpStorage(client, Key(), VirtualClock(), limit_bytes=limit)
        return (await storage.fetch(url, app="shop")).value


async def test_it_is_asked_with_a_signature(autojump_clock: trio.abc.Clock) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=["A=1", "B=ä"])

    assert await fetch(answer) == ["A=1", "B=ä"]
    headers = asked[0].headers
    message = headers["flux-message"]
    assert message.startswith(f"1{URL}")
    assert message.removeprefix(f"1{URL}").isdigit()
    assert headers["flux-signature"] == f"signed({message})"
    assert headers["flux-app"] == "shop"


def broken(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError(f"no route to {request.url}")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda _: httpx.Response(403, text="very-secret"), "answered 403"),
        (lambda _: httpx.Response(200, text="very-secret"), "not answer with JSON"),
        (lambda _: httpx.Response(200, content=b"\xff\xfe"), "not answer with JSON"),
        (lambda _: httpx.Response(200, content=b"[" + b" " * 2000), "more than 1024 bytes"),
        (broken, "ConnectError"),
        (Slow(), "within 20 s"),
    ],
)
async def test_what_goes_wrong_names_the_host_only(
    answer: Answer, words: str, autojump_clock: trio.abc.Clock
) -> None:
    with pytest.raises(StorageError, match=words) as caught:
        await fetch(answer)
    assert "storage.test" in caught.value.message
    assert "very-secret" not in str(caught.value.one_line())
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["file:///etc/passwd", "nonsense", "http://", "https://[broken"])
async def test_only_http_addresses_are_asked(url: str) -> None:
    with pytest.raises(StorageError, match="not an http address"):
        await fetch(lambda _: httpx.Response(200, json=[]), url)


@pytest.mark.process
async def test_over_a_real_connection() -> None:
    """One request, answered as servers do; what was sent arrives whole."""
    heard: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            heard.append(await stream.receive_some(65536))
            body = b'["FETCHED=1", "OTHER=2"]'
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            await stream.send_all(head.encode() + body)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        url = f"http://127.0.0.1:{port}/env?token=abc"
        async with httpx.AsyncClient(trust_env=False) as client:
            key = NodeKey.generate(random.Random(5), compressed=True)
            storage = HttpStorage(client, key, VirtualClock(), limit_bytes=1024)
            found = await storage.fetch(url, app="shop")
        nursery.cancel_scope.cancel()
    assert found.value == ["FETCHED=1", "OTHER=2"]
    lines = heard[0].decode().split("\r\n")
    assert lines[0] == "GET /env?token=abc HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    assert headers["flux-app"] == "shop"
    assert headers["flux-message"].startswith(f"1{url}")
    assert verify_message(headers["flux-message"], key.public_key, headers["flux-signature"])
