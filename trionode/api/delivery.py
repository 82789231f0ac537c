"""Turning a reply into an HTTP response: JSON bytes, ETag and 304, gzip, HEAD, Cache-Control.

Rules: docs/spec/api.md §1.1, §1.3, §1.4.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
import trio
from quart import Response
from werkzeug.datastructures import Headers

from trionode.api.answers import Answer, Raw, Stream
from trionode.api.cache import Body
from trionode.wire import jsjson

JSON_TYPE = "application/json; charset=utf-8"
GZIP_FROM_BYTES = 1024
GZIP_LEVEL = 6
IN_THREAD_FROM_BYTES = 256 * 1024
CORS_METHODS = "GET,HEAD,PUT,PATCH,POST,DELETE"
COMPRESSIBLE = ("application/json", "text/")


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


def render(reply: Answer | Raw) -> Body:
    """The bytes of a reply."""
    if isinstance(reply, Raw):
        return Body(reply.http_status, reply.content_type, reply.body, None)
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
