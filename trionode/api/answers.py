"""What a route answers: the envelope of docs/spec/api.md §1.1 and the few exceptions to it.

Handlers return an `Answer` or raise an `ApiFailure`; how it becomes bytes, headers and a cache
entry is `api.delivery`'s business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from trionode.errors import TrionodeError


class Answer(msgspec.Struct, frozen=True):
    """`{"status": status, "data": data}`; `http_status` is 200 for nearly everything.

    `life_s` shortens the route's cache time for an answer that will not stay true that long.
    """

    status: str
    data: Any
    http_status: int = 200
    life_s: int = 86_400

    def envelope(self) -> dict[str, Any]:
        """The JSON object in the key order of §1.1."""
        return {"status": self.status, "data": self.data}


class Raw(msgspec.Struct, frozen=True):
    """An answer outside the envelope: documents, pages, bare status codes."""

    body: bytes
    content_type: str
    http_status: int = 200


class JsonText(msgspec.Struct, frozen=True):
    """A data message whose payload is JSON text already; nobody parses it only to write it again."""

    text: str


class JsonStream(msgspec.Struct, frozen=True):
    """A data message whose payload is a long list, sent piece by piece in constant memory.

    `pieces` are texts of one or more rows with commas between them; joined with commas they are the
    list. `etag` names the content without reading it.
    """

    pieces: AsyncIterator[str]
    etag: str


class Stream(msgspec.Struct, frozen=True):
    """An endless body; each chunk is flushed as it comes."""

    chunks: AsyncIterator[bytes]
    headers: Mapping[str, str]


Reply = Answer | JsonText | JsonStream | Raw | Stream


class ApiFailure(TrionodeError):
    """A request that cannot be served as asked; becomes an error envelope (HTTP 200 by default)."""

    code = "api"

    def __init__(
        self,
        message: str,
        *,
        name: str | None = None,
        number: int | str | None = None,
        http_status: int = 200,
        status: str = "error",
    ) -> None:
        super().__init__(message)
        self.name = name
        self.number = number
        self.http_status = http_status
        self.status = status

    def answer(self) -> Answer:
        return Answer(self.status, message(self.message, self.name, self.number), self.http_status)


def message(text: Any, name: str | None = None, code: int | str | None = None) -> dict[str, Any]:
    """`{code?, name?, message}`; undefined members are absent (§1.1)."""
    data: dict[str, Any] = {}
    if code is not None:
        data["code"] = code
    if name is not None:
        data["name"] = name
    data["message"] = text
    return data


def data(value: Any) -> Answer:
    """A data message: the raw payload."""
    return Answer("success", value)


def success(text: Any) -> Answer:
    """A success message."""
    return Answer("success", message(text))


def warning(text: str) -> Answer:
    """A warning message: nothing broke, but what was asked did not happen."""
    return Answer("warning", message(text))


def refusal() -> Answer:
    """The refusal of §1.1: HTTP 200, code 401."""
    return Answer("error", message("Unauthorized. Access denied.", "Unauthorized", 401))
