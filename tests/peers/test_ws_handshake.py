"""The opening handshake as values: paths, X-Flux headers, requests and answers (wire.md §1)."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.errors import WireError
from trionode.peers.handshake import (
    UpgradeRefused,
    accept_upgrade,
    dial_request,
    hello_headers,
    peer_port_segment,
    read_answer,
    read_hello,
    read_response,
    read_upgrade,
)
from trionode.peers.link import CAPABILITIES, Hello

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire.json").read_text())["ws_handshake"]
FULL = Hello(
    capabilities=frozenset(CAPABILITIES), version="8.13.0", uptime_s=4, clock_offset_ms=-12, reconnect=True
)


def request(path: str = "/ws/flux/16127", **changes: str | None) -> bytes:
    headers: dict[str, str | None] = {
        "Host": "x",
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items() if v is not None)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("path", "port"),
    [
        ("/ws/flux/16127", "16127"),
        ("/ws/flux/16137/", "16137"),
        ("/ws/flux", "16127"),
        ("/ws/flux/", "16127"),
        ("/ws/FLUX/16147", "16147"),
        ("/ws/Flux", "16127"),
        ("/ws/flux/anything%20goes", "anything goes"),
        ("/ws/flux/%E2%82%AC", "€"),
        ("/ws/flux/a%2Fb", "a/b"),
        ("/ws/flux/16127?x=1", "16127?x=1"),
    ],
)
def test_peer_paths(path: str, port: str) -> None:
    assert peer_port_segment(path) == port


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/WS/flux/16127", 404),
        ("/ws/flux?16127", 404),
        ("/ws/flux/1/2", 404),
        ("/ws/flux//", 404),
        ("/ws/fluxx/1", 404),
        ("/ws/id/abc", 404),
        ("/ws/", 404),
        ("/ws/flux/%", 400),
        ("/ws/flux/%zz", 400),
        ("/ws/flux/%ff", 400),
        ("/ws/flux/16127%2", 400),
    ],
)
def test_other_paths_are_refused(path: str, status: int) -> None:
    with pytest.raises(UpgradeRefused) as caught:
        peer_port_segment(path)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request(Sec_WebSocket_Key=None), 400),
        (request(Sec_WebSocket_Key="short"), 400),
        (request(Sec_WebSocket_Key="!" * 24), 400),
        (request(Sec_WebSocket_Version=None), 426),
        (request(Sec_WebSocket_Version="8"), 426),
        (request(Connection="keep-alive"), 400),
        (request(Host=None), 400),
        (request(Content_Length="5"), 400),
        (request(Transfer_Encoding="chunked"), 400),
        (request("/ws/fl\xe9x"), 400),
        (request().replace(b"GET", b"POST"), 400),
        (request().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (request()[:-2], 400),
        (b"\x16\x03\x01\r\n\r\n", 400),
    ],
)
def test_bad_upgrades_are_refused_with_a_status(head: bytes, status: int) -> None:
    with pytest.raises(UpgradeRefused) as caught:
        read_upgrade(head)
    assert caught.value.status == status


@given(st.binary(max_size=400))
def test_no_head_whatever_breaks_the_judge(noise: bytes) -> None:
    for head in (noise, b"GET " + noise, request().replace(b"keep-alive", noise)):
        # any other exception fails the test
        with suppress(UpgradeRefused):
            read_upgrade(head + b"\r\n\r\n")


def test_our_request_is_the_recorded_one() -> None:
    recorded = VECTORS["outbound_request"]
    head, _key = dial_request("127.0.0.1", 16137, FULL, own_port=16127, ephemeral=False, nonce=bytes(16))
    line, *rest = head.decode().split("\r\n")
    headers = dict(entry.split(": ", 1) for entry in rest if entry)
    assert line == recorded["request_line"]
    for name in ("X-Flux-Capabilities", "X-Flux-Version", "X-Flux-Uptime", "Sec-WebSocket-Extensions"):
        assert headers[name] == recorded["headers"][name]
    assert headers["X-Flux-Reconnect"] == "true"
    assert headers["X-Flux-Clock-Offset"] == "-12"
    ephemeral, _key = dial_request("127.0.0.1", 1, Hello(), own_port=1, ephemeral=True, nonce=bytes(16))
    assert f"Sec-WebSocket-Extensions: {recorded['ephemeral_extensions']}\r\n".encode() in ephemeral
    assert b"X-Flux" not in ephemeral


@pytest.mark.parametrize("ephemeral", [False, True])
def test_both_sides_understand_each_other(ephemeral: bool) -> None:
    head, key = dial_request(
        "127.0.0.1", 2, FULL, own_port=16137, ephemeral=ephemeral, nonce=bytes(range(16))
    )
    upgrade = read_upgrade(head)
    assert upgrade.dial_port == "16137"
    assert upgrade.hello == FULL
    answer, server_side = accept_upgrade(upgrade, FULL)
    hello, client_side = read_answer(answer, key, ephemeral=ephemeral)
    assert hello.capabilities == FULL.capabilities
    assert not hello.reconnect
    assert server_side == client_side
    assert server_side is not None


def test_the_first_subprotocol_is_echoed() -> None:
    answer, _ = accept_upgrade(read_upgrade(request(Sec_WebSocket_Protocol="one, two")), Hello())
    assert b"\r\nSec-WebSocket-Protocol: one\r\n" in answer


def test_headers_are_read_leniently() -> None:
    hello = read_hello(
        [
            (b"X-FLUX-CAPABILITIES", b" a ,, b,"),
            (b"x-flux-version", b""),
            (b"x-flux-uptime", b"12.5"),
            (b"x-flux-clock-offset", b"+7"),
            (b"x-flux-reconnect", b"TRUE"),
        ]
    )
    assert hello == Hello(capabilities=frozenset({"a", "b"}), clock_offset_ms=7)
    assert read_hello([]) == Hello()
    assert hello_headers(Hello(), request=True) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b"101", b"200"), "200"),
        ((b"Accept: ", b"Accept: x"), "Accept"),
        ((b"Upgrade: websocket", b"Upgrade: h2c"), "websocket"),
        ((b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: x\r\n\r\n"), "subprotocol"),
        ((b"permessage-deflate;", b"x-other;"), "extensions"),
        ((b"HTTP/1.1", b"SPDY/9"), "HTTP"),
        ((b"\r\n\r\n", b"\r\n"), "incomplete"),
    ],
)
def test_bad_answers_say_what_is_wrong(change: tuple[bytes, bytes], message: str) -> None:
    head, key = dial_request("127.0.0.1", 2, FULL, own_port=1, ephemeral=False, nonce=bytes(16))
    answer, _ = accept_upgrade(read_upgrade(head), FULL)
    assert read_answer(answer, key, ephemeral=False)[1] is not None
    with pytest.raises(WireError, match=message):
        read_answer(answer.replace(*change), key, ephemeral=False)


def test_plain_responses_are_read() -> None:
    status, headers = read_response(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    assert status == 404
    assert (b"content-length", b"0") in headers
