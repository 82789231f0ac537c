"""Turning a reply into an HTTP response: JSON bytes, ETag and 304, gzip, HEAD, Cache-Control.

Rules: docs/spec/api.md §1.1, §1.3, §1.4.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import trio
from quart import Response
from werkzeug.datastructures import Headers

from trionode.api.answers import Answer, JsonStream, JsonText, Raw, Stream
from trionode.api.cache import Body
from trionode.wire import jsjson

JSON_TYPE = "application/json; charset=utf-8"
GZIP_FROM_BYTES = 1024
GZIP_LEVEL = 6
IN_THREAD_FROM_BYTES = 256 * 1024
CORS_METHODS = "GET,HEAD,PUT,PATCH,POST,DELETE"
STREAM_GZIP_LEVEL = 1
"""Of the longest lists; it costs a third of the usual level and gives up a tenth of the saving."""
GZIP_WINDOW = 31
COMPRESSIBLE = ("application/json", "text/")
DATA_HEAD = '{"status":"success","data":'
DATA_TAIL = "}"


def encode_json(value: Any) -> bytes:
    """JSON bytes with members in the order given.

    Text from other nodes may hold lone surrogates, which have no UTF-8 form: these answers take the
    slower encoder that writes them as escapes.
    """
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return jsjson.stringify(msgspec.to_builtins(value)).encode()


def weak_etag(content: bytes) -> str:
    """`W/"<length in hex>-<27 base64 characters of SHA-1>"`."""
    digest = base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest())[:27].decode()
    return f'W/"{len(content):x}-{digest}"'


def render(reply: Answer | JsonText | Raw) -> Body:
    """The bytes of a reply."""
    if isinstance(reply, Raw):
        return Body(reply.http_status, reply.content_type, reply.body, None)
    if isinstance(reply, JsonText):
        content = jsjson.utf8(f"{DATA_HEAD}{reply.text}{DATA_TAIL}")
        return Body(200, JSON_TYPE, content, weak_etag(content))
    content = encode_json(reply.envelope())
    return Body(reply.http_status, JSON_TYPE, content, weak_etag(content))


def etag_matches(header: str, etag: str) -> bool:
    """Weak comparison of `If-None-Match` with our tag."""
    if header.strip() == "*":
        return True
    ours = etag.removeprefix("W/")
    return any(candidate.strip().removeprefix("W/") == ours for candidate in header.split(","))


def accepts_gzip(header: str) -> bool:
    """True when `Accept-Encoding` names gzip (or *) without refusing it with q=0."""
    for part in header.lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip", "*"):
            quality = parameters.replace(" ", "").removeprefix("q=")
            return quality.rstrip("0").rstrip(".") not in ("", "0") if parameters else True
    return False


async def respond(body: Body, method: str, headers: Headers, max_age_s: int) -> Response:
    """The response for one request; `max_age_s` 0 = no Cache-Control."""
    extra: dict[str, str] = {}
    if max_age_s:
        extra["Cache-Control"] = f"max-age={max_age_s}"
    if body.etag is not None:
        extra["ETag"] = body.etag
        wanted = headers.get("If-None-Match", "")
        if method in ("GET", "HEAD") and body.status == 200 and etag_matches(wanted, body.etag):
            return _response(b"", 304, None, extra)
    content = body.content
    if len(content) >= GZIP_FROM_BYTES and body.content_type.startswith(COMPRESSIBLE):
        extra["Vary"] = "Accept-Encoding"
        if accepts_gzip(headers.get("Accept-Encoding", "")):
            content = await _gzipped(body)
            extra["Content-Encoding"] = "gzip"
    extra["Content-Length"] = str(len(content))
    return _response(b"" if method == "HEAD" else content, body.status, body.content_type, extra)


async def _gzipped(body: Body) -> bytes:
    if body.gzipped is None:
        if len(body.content) < IN_THREAD_FROM_BYTES:
            body.gzipped = gzip.compress(body.content, GZIP_LEVEL, mtime=0)
        else:  # tens of milliseconds and more: away from the loop
            body.gzipped = await trio.to_thread.run_sync(
                lambda: gzip.compress(body.content, GZIP_LEVEL, mtime=0), abandon_on_cancel=True
            )
    return body.gzipped


def _response(content: bytes, status: int, content_type: str | None, extra: Mapping[str, str]) -> Response:
    response = Response(content, status=status, content_type=content_type)
    if content_type is None:
        response.headers.pop("Content-Type", None)
        response.headers.pop("Content-Length", None)
    for name, value in extra.items():
        response.headers[name] = value
    return response


class ListChunks:
    """The bytes of a streamed list: head, pieces with commas between, tail; gzipped and flushed if wanted.

    Closing it closes the pieces, also when the client leaves half way.
    """

    def __init__(self, pieces: AsyncIterator[str], *, gzipped: bool) -> None:
        self._pieces = pieces
        self._deflate = zlib.compressobj(STREAM_GZIP_LEVEL, wbits=GZIP_WINDOW) if gzipped else None
        self._lead = f"{DATA_HEAD}["
        self._over = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        piece = await anext(self._pieces, None)
        if piece is None:
            self._over = True
            # Of an empty list the head is still to be sent.
            head = "" if self._lead == "," else self._lead
            return await self._packed(f"{head}]{DATA_TAIL}")
        text = self._lead + piece
        self._lead = ","
        return await self._packed(text)

    async def _packed(self, text: str) -> bytes:
        content = jsjson.utf8(text)
        deflate = self._deflate
        if deflate is None:
            return content
        mode = zlib.Z_FINISH if self._over else zlib.Z_SYNC_FLUSH

        def pack() -> bytes:
            return deflate.compress(content) + deflate.flush(mode)

        if len(content) < IN_THREAD_FROM_BYTES:
            return pack()
        return await trio.to_thread.run_sync(pack)

    async def aclose(self) -> None:
        """Let go of the pieces; idempotent."""
        self._over = True
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            with trio.CancelScope(shield=True):
                await close()


async def list_response(reply: JsonStream, method: str, headers: Headers, max_age_s: int) -> Response:
    """A long list: the same headers as other answers, but no length. HEAD and 304 read no row."""
    extra = {"ETag": reply.etag, "Vary": "Accept-Encoding"}
    if max_age_s:
        extra["Cache-Control"] = f"max-age={max_age_s}"
    gzipped = accepts_gzip(headers.get("Accept-Encoding", ""))
    chunks = ListChunks(reply.pieces, gzipped=gzipped)
    unchanged = etag_matches(headers.get("If-None-Match", ""), reply.etag)
    if unchanged or method == "HEAD":
        await chunks.aclose()
        return _response(b"", 304 if unchanged else 200, None if unchanged else JSON_TYPE, extra)
    if gzipped:
        extra["Content-Encoding"] = "gzip"
    response = Response(chunks, headers=extra, content_type=JSON_TYPE)
    response.timeout = None
    return response


def stream_response(reply: Stream) -> Response:
    """An endless response; no time-out may end it."""
    response = Response(reply.chunks, headers=dict(reply.headers))
    response.timeout = None
    return response


def preflight(headers: Headers) -> Response:
    """204 with the fixed methods and the request headers echoed (§1.3)."""
    response = Response(b"", status=204)
    response.headers.pop("Content-Type", None)
    response.headers["Access-Control-Allow-Methods"] = CORS_METHODS
    wanted = headers.get("Access-Control-Request-Headers")
    if wanted:
        response.headers["Access-Control-Allow-Headers"] = wanted
        response.headers["Vary"] = "Access-Control-Request-Headers"
    return response
