"""The WebSocket opening handshake of peer links, as values: paths, headers, both sides (wire.md §1).

Nothing here touches a socket. wsproto's own handshake is not used: it loses bytes that arrive
behind the request, buffers without limit and raises on odd host names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

import h11
import msgspec

from trionode.errors import PeerError, WireError
from trionode.peers.deflate import EPHEMERAL_OFFER, OFFER, Agreement, accept_answer, answer_offer
from trionode.peers.link import CAPABILITIES, Hello

LEGACY_PORT = "16127"
MAX_HEAD_BYTES = 16 * 1024
_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PEER_PATH = re.compile(r"/ws/(?i:flux)(?:/([^/]+))?/?")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")

Headers = list[tuple[bytes, bytes]]


class UpgradeRefused(PeerError):
    """An upgrade request that is not a peer's; `status` is the HTTP status to answer with."""

    def __init__(self, status: int, message: str, headers: Headers | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or []


class Upgrade(msgspec.Struct, frozen=True):
    """A valid upgrade request of a peer."""

    dial_port: str
    key: bytes
    hello: Hello
    extensions: str | None
    subprotocol: str | None


def peer_port_segment(target: str) -> str:
    """Port text of a peer path, percent-decoded; "16127" for the legacy path.

    Raises UpgradeRefused: 404 for other paths, 400 for a malformed % escape.
    """
    match = _PEER_PATH.fullmatch(target)
    if match is None:
        raise UpgradeRefused(404, f"{target[:80]!r} is not a peer path")
    segment = match.group(1)
    if segment is None:
        return LEGACY_PORT
    if _BAD_ESCAPE.search(segment):
        raise UpgradeRefused(400, f"malformed % escape in {target[:80]!r}")
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise UpgradeRefused(400, f"{target[:80]!r} is not UTF-8 after decoding") from error


def hello_headers(hello: Hello, *, request: bool) -> Headers:
    """The X-Flux-* headers that say `hello`; the reconnect mark goes with requests only."""
    headers: Headers = []
    if hello.capabilities:
        known = [name for name in CAPABILITIES if name in hello.capabilities]
        other = sorted(hello.capabilities.difference(CAPABILITIES))
        headers.append((b"X-Flux-Capabilities", ",".join(known + other).encode()))
    if hello.version is not None:
        headers.append((b"X-Flux-Version", hello.version.encode()))
    if hello.uptime_s is not None:
        headers.append((b"X-Flux-Uptime", str(hello.uptime_s).encode()))
    if hello.reconnect and request:
        headers.append((b"X-Flux-Reconnect", b"true"))
    if hello.clock_offset_ms is not None:
        headers.append((b"X-Flux-Clock-Offset", str(hello.clock_offset_ms).encode()))
    return headers


def read_hello(headers: Iterable[tuple[bytes, bytes]]) -> Hello:
    """What a peer's headers say; unreadable values count as absent, all are optional."""
    values = {name.lower(): value.decode("latin-1").strip() for name, value in headers}
    capabilities = values.get(b"x-flux-capabilities", "").split(",")
    return Hello(
        capabilities=frozenset(entry.strip() for entry in capabilities if entry.strip()),
        version=values.get(b"x-flux-version") or None,
        uptime_s=_integer(values.get(b"x-flux-uptime")),
        clock_offset_ms=_integer(values.get(b"x-flux-clock-offset")),
        reconnect=values.get(b"x-flux-reconnect") == "true",
    )


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and _INTEGER.fullmatch(text) else None


def _joined(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    values = [value.decode("latin-1") for key, value in headers if key.lower() == name]
    return ", ".join(values) if values else None


def _accept_token(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _ACCEPT_SALT).digest())


def read_upgrade(head: bytes) -> Upgrade:
    """Judge a complete request head (with its blank line). Raises UpgradeRefused."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    try:
        parser.receive_data(head)
        request = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise UpgradeRefused(400, f"not an HTTP/1.1 request: {error}") from error
    if not isinstance(request, h11.Request):
        raise UpgradeRefused(400, "the request head is incomplete")
    headers = list(request.headers)
    if request.method != b"GET" or request.http_version != b"1.1":
        raise UpgradeRefused(400, "an upgrade must be a GET request of HTTP/1.1")
    if "websocket" not in _tokens(_joined(headers, b"upgrade")):
        raise UpgradeRefused(400, "the Upgrade header does not name websocket")
    if "upgrade" not in _tokens(_joined(headers, b"connection")):
        raise UpgradeRefused(400, "the Connection header does not name upgrade")
    if _joined(headers, b"sec-websocket-version") != "13":
        version: Headers = [(b"Sec-WebSocket-Version", b"13")]
        raise UpgradeRefused(426, "only version 13 of the WebSocket protocol is spoken", version)
    key = _joined(headers, b"sec-websocket-key") or ""
    if not _is_key(key):
        raise UpgradeRefused(400, "Sec-WebSocket-Key is not 16 bytes of base64")
    has_body = _joined(headers, b"transfer-encoding") or _joined(headers, b"content-length") not in (
        None,
        "0",
    )
    if has_body:
        raise UpgradeRefused(400, "an upgrade request cannot have a body")
    subprotocols = _joined(headers, b"sec-websocket-protocol") or ""
    return Upgrade(
        dial_port=peer_port_segment(request.target.decode("ascii")),
        key=key.encode(),
        hello=read_hello(headers),
        extensions=_joined(headers, b"sec-websocket-extensions"),
        subprotocol=subprotocols.split(",")[0].strip() or None,
    )


def _tokens(value: str | None) -> set[str]:
    return {token.strip().lower() for token in (value or "").split(",")}


def _is_key(text: str) -> bool:
    try:
        return len(text) == 24 and len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def accept_upgrade(upgrade: Upgrade, ours: Hello) -> tuple[bytes, Agreement | None]:
    """The 101 answer and the agreed compression."""
    headers: Headers = [
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Accept", _accept_token(upgrade.key)),
    ]
    chosen = answer_offer(upgrade.extensions)
    if chosen is not None:
        headers.append((b"Sec-WebSocket-Extensions", chosen[0].encode()))
    if upgrade.subprotocol is not None:
        headers.append((b"Sec-WebSocket-Protocol", upgrade.subprotocol.encode("latin-1")))
    headers += hello_headers(ours, request=False)
    head = b"HTTP/1.1 101 Switching Protocols\r\n" + _lines(headers)
    return head, chosen[1] if chosen is not None else None


def _lines(headers: Headers) -> bytes:
    return b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n"


def dial_request(
    ip: str, port: int, ours: Hello, *, own_port: int, ephemeral: bool, nonce: bytes
) -> tuple[bytes, bytes]:
    """The upgrade request for `ws://ip:port/ws/flux/<own_port>` and its key; `nonce` is 16 bytes."""
    key = base64.b64encode(nonce)
    headers: Headers = [
        (b"Host", f"{ip}:{port}".encode()),
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Version", b"13"),
        (b"Sec-WebSocket-Key", key),
        *hello_headers(ours, request=True),
        (b"Sec-WebSocket-Extensions", (EPHEMERAL_OFFER if ephemeral else OFFER).encode()),
    ]
    return b"GET /ws/flux/%d HTTP/1.1\r\n" % own_port + _lines(headers), key


def read_answer(head: bytes, key: bytes, *, ephemeral: bool) -> tuple[Hello, Agreement | None]:
    """Judge the server's complete response head. Raises WireError saying what is wrong."""
    status, headers = read_response(head)
    if status != 101:
        raise WireError(f"answered {status} instead of switching to WebSocket")
    if "websocket" not in _tokens(_joined(headers, b"upgrade")):
        raise WireError("answered 101 without naming websocket")
    if _joined(headers, b"sec-websocket-accept") != _accept_token(key).decode():
        raise WireError("answered 101 with a wrong Sec-WebSocket-Accept")
    if _joined(headers, b"sec-websocket-protocol") is not None:
        raise WireError("answered with a subprotocol although none was offered")
    offer = EPHEMERAL_OFFER if ephemeral else OFFER
    return read_hello(headers), accept_answer(_joined(headers, b"sec-websocket-extensions"), offer)


def read_response(head: bytes) -> tuple[int, Headers]:
    """Status and headers of a complete response head. Raises WireError."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    # h11 reads an answer only after a request; its upgrade headers make it expect a 101
    parser.send(
        h11.Request(
            method="GET",
            target="/",
            headers=[("Host", "x"), ("Connection", "upgrade"), ("Upgrade", "websocket")],
        )
    )
    try:
        parser.receive_data(head)
        answer = parser.next_event()
    except h11.RemoteProtocolError as error:
        raise WireError(f"the answer is not HTTP/1.1: {error}") from error
    if not isinstance(answer, h11.Response | h11.InformationalResponse):
        raise WireError("the answer's head is incomplete")
    return answer.status_code, list(answer.headers)
