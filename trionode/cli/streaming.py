"""Answers of a node that come piece by piece: progress of an operation, a log that is followed.

Beside `client`, with the standard library only. JSON objects come one after the other, with or without
anything between them (docs/spec/api.md §1.5).
"""

from __future__ import annotations

import codecs
import http.client
import json
from collections.abc import Generator, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from trionode.cli.client import NodeApi, NodeRefused, NodeUnreachable, StreamLost

SILENCE_S = 3600.0
"""A large image may take this long without a word."""
READ_BYTES = 65536
DEEPEST_BYTES = 64 * 1024 * 1024


def stream_objects(
    api: NodeApi, path: str, query: Mapping[str, str | None] | None = None, *, zelidauth: str
) -> Iterator[dict[str, Any]]:
    """Objects as they come. Raises NodeUnreachable at the start, StreamLost when the connection breaks."""
    given = {name: value for name, value in (query or {}).items() if value is not None}
    target = quote(path) + (f"?{urlencode(given)}" if given else "")
    connection = http.client.HTTPConnection(api.host, api.port, timeout=SILENCE_S)
    headers = {"zelidauth": zelidauth, "Accept-Encoding": "identity"}
    try:
        try:
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise NodeUnreachable(
                f"no node answers at {api.url} ({str(error) or type(error).__name__})",
                remedy="start one with `trionode run`, or name another with --api URL or $TRIONODE_API",
            ) from error
        yield from _objects(response, api.url + path)
    finally:
        connection.close()


def last_answer(objects: Iterator[dict[str, Any]]) -> Generator[dict[str, Any], None, str]:
    """All objects but the last, which is judged: raises NodeRefused unless it says success.

    The message of the last object is the return value of the generator.
    """
    held: dict[str, Any] | None = None
    for found in objects:
        if held is not None:
            yield held
        held = found
    if held is None or "data" not in held:
        raise StreamLost(
            "the node broke off before it said how it ended",
            remedy="it goes on with what it began: see `trionode containers ls`",
        )
    data = held["data"]
    text = str(data.get("message")) if isinstance(data, dict) else str(data)
    if held.get("status") != "success":
        raise NodeRefused(text)
    return text


def _objects(response: http.client.HTTPResponse, what: str) -> Iterator[dict[str, Any]]:
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    scan = json.JSONDecoder().raw_decode
    text = ""
    while True:
        try:
            chunk = response.read1(READ_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise StreamLost(f"the answer of {what} broke off: {error}") from error
        text += decode(chunk, not chunk)
        while text := text.lstrip():
            try:
                found, end = scan(text)
            except ValueError as error:
                if not chunk or len(text) > DEEPEST_BYTES:
                    raise NodeUnreachable(
                        f"{what} did not answer like a trionode node",
                        remedy="check which program listens there",
                    ) from error
                break
            text = text[end:]
            if isinstance(found, dict):
                yield found
        if not chunk:
            return
