"""Environment and commands kept by an owner: asked signed, read up to a limit (lifecycle.md §13)."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import httpx
import pytest
import trio

from trionode.containers.install.storage import HttpStorage
from trionode.containers.install.troubles import StorageAway, StorageError
from trionode.containers.node.publichosts import PublicHosts
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
        (lambda _: httpx.Response(302, headers={"location": "http://10.0.0.1/"}), "answered 302"),
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


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "nonsense",
        "http://",
        "https://[broken",
        "http://xn--a.com/",
        "http://storage.test/\ud800",
        "http://storage.test:port/",
        "http://storage.test/a\nb",
        "http://stor\0age.test/",
    ],
)
async def test_only_http_addresses_are_asked(url: str) -> None:
    with pytest.raises(StorageError, match="not an http address") as caught:
        await fetch(lambda _: httpx.Response(200, json=[]), url)
    assert not isinstance(caught.value, StorageAway)


@pytest.mark.parametrize("host", ["a" * 64 + ".com", "a." * 130 + "com", "\u00e4" * 70 + ".com", "a..b"])
async def test_a_host_that_cannot_be_looked_up_is_an_error_and_no_crash(host: str) -> None:
    for hosts in (None, PublicHosts()):
        async with httpx.AsyncClient(trust_env=False) as client:
            storage = HttpStorage(client, Key(), VirtualClock(), limit_bytes=10, hosts=hosts)
            with pytest.raises(StorageError):
                await storage.fetch(f"http://{host}/env", app="shop")


@pytest.mark.parametrize(
    ("answer", "away"),
    [
        (lambda _: httpx.Response(503), True),
        (lambda _: httpx.Response(429), True),
        (lambda _: httpx.Response(404), False),
        (lambda _: httpx.Response(200, text="no JSON"), False),
        (broken, True),
        (Slow(), True),
    ],
)
async def test_no_answer_is_told_from_a_wrong_one(
    answer: Answer, away: bool, autojump_clock: trio.abc.Clock
) -> None:
    with pytest.raises(StorageError) as caught:
        await fetch(answer)
    assert isinstance(caught.value, StorageAway) == away


def at(*addresses: str) -> PublicHosts:
    async def look_up(host: str, port: int) -> list[str]:
        await trio.lowlevel.checkpoint()
        if not addresses:
            raise OSError("no such host")
        return list(addresses)

    return PublicHosts(look_up=look_up)


async def fetch_at(hosts: PublicHosts, asked: list[httpx.Request], url: str = URL) -> object:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.host == "203.0.114.9":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=["A=1"])

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        storage = HttpStorage(client, Key(), VirtualClock(), limit_bytes=1024, hosts=hosts)
        return (await storage.fetch(url, app="shop")).value


async def test_the_address_that_was_judged_is_the_one_that_is_asked() -> None:
    asked: list[httpx.Request] = []
    assert await fetch_at(at("10.0.0.1", "203.0.114.9", "203.0.114.7"), asked) == ["A=1"]
    assert [request.url.host for request in asked] == ["203.0.114.9", "203.0.114.7"]
    assert asked[1].headers["host"] == "storage.test"
    assert asked[1].extensions["sni_hostname"] == "storage.test"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "172.23.1.2",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
    ],
)
async def test_nobody_is_asked_in_the_network_of_this_node(address: str) -> None:
    asked: list[httpx.Request] = []
    with pytest.raises(StorageError, match="not on the public internet") as caught:
        await fetch_at(at(address), asked)
    assert not asked
    assert not isinstance(caught.value, StorageAway)


async def test_the_words_for_this_machine_are_seen_through() -> None:
    for host in ("127.1", "0x7f.1", "2130706433", "localhost"):
        asked: list[httpx.Request] = []
        with pytest.raises(StorageError, match="not on the public internet"):
            await fetch_at(PublicHosts(), asked, f"http://{host}/env")
        assert not asked


async def test_a_name_nobody_knows_now_says_nothing_of_the_app() -> None:
    with pytest.raises(StorageAway, match="not known now"):
        await fetch_at(at(), [])


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
            hosts = PublicHosts(allow_private=True)
            storage = HttpStorage(client, key, VirtualClock(), limit_bytes=1024, hosts=hosts)
            found = await storage.fetch(url, app="shop")
        nursery.cancel_scope.cancel()
    assert found.value == ["FETCHED=1", "OTHER=2"]
    lines = heard[0].decode().split("\r\n")
    assert lines[0] == "GET /env?token=abc HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    assert headers["flux-app"] == "shop"
    assert headers["flux-message"].startswith(f"1{url}")
    assert verify_message(headers["flux-message"], key.public_key, headers["flux-signature"])
