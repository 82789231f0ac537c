"""Answers of the Docker engine that come bit by bit, as iterators; and how images are asked for.

Facts: docs/spec/lifecycle.md §13.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import msgspec

from trionode.containers.docker.answers import decode
from trionode.containers.docker.requests import Body
from trionode.containers.docker.streams import Frames, Lines, LogLines
from trionode.containers.engine import Credentials, EngineError, LogLine


def encoded(document: Any) -> bytes:
    """A body to be sent. Raises EngineError when it has half a character in it, without its content."""
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        raise _half_a_character() from None


def segment(name: str, safe: str = "") -> str:
    """A name as part of a path. Raises EngineError as above."""
    try:
        return quote(name, safe=safe)
    except UnicodeEncodeError:
        raise _half_a_character() from None


def _half_a_character() -> EngineError:
    return EngineError(
        "the engine cannot be told that: a text has half a character (an unpaired surrogate) in it",
        remedy="correct the specification of the app",
    )


def split_repotag(repotag: str) -> tuple[str, str]:
    """Name and tag or digest; without one it is `latest` (an engine asked for no tag fetches them all)."""
    name, at, digest = repotag.partition("@")
    if at:
        return name, digest
    head, slash, last = repotag.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}{slash}{last}", tag or "latest"


def login(name: str, credentials: Credentials) -> str:
    """The header that lets an engine fetch from a registry. `name`: of the image, without its tag."""
    registry = name.partition("/")[0]
    said = {
        "username": credentials.username,
        "password": credentials.password,
        "serveraddress": registry if "." in registry or ":" in registry else "https://index.docker.io/v1/",
    }
    return base64.urlsafe_b64encode(encoded(said)).decode()


async def whole(body: Body, limit_bytes: int, doing: str) -> bytes:
    """All of it. Raises EngineError when it is longer than that."""
    content = bytearray()
    while piece := await body.receive():
        content += piece
        if len(content) > limit_bytes:
            raise EngineError(f"cannot {doing}: there are more than {limit_bytes} bytes of them")
    return bytes(content)


async def _pieces(body: Body) -> AsyncGenerator[bytes, None]:
    while content := await body.receive():
        yield content


async def json_lines(body: Body) -> AsyncGenerator[bytes, None]:
    """Each line of an answer; empty ones are left out."""
    cut = Lines()
    async with aclosing(_pieces(body)) as pieces:
        async for content in pieces:
            for line in cut.feed(content):
                if line.strip():
                    yield line
    for line in cut.end():
        if line.strip():
            yield line


async def objects(body: Body) -> AsyncGenerator[Mapping[str, Any], None]:
    """Each object of an answer that has one a line."""
    async with aclosing(json_lines(body)) as lines:
        async for line in lines:
            yield decode(line, dict[str, Any])


async def log_lines(body: Body, cut: LogLines) -> AsyncGenerator[LogLine, None]:
    """Each line a container wrote."""
    async with aclosing(_pieces(body)) as pieces:
        async for content in pieces:
            for line in cut.feed(content):
                yield line
    for line in cut.end():
        yield line


async def output(body: Body) -> AsyncGenerator[bytes, None]:
    """What a command writes, both streams, as it comes."""
    frames = Frames()
    async with aclosing(_pieces(body)) as pieces:
        async for content in pieces:
            for _, piece in frames.feed(content):
                yield piece
