"""What the Docker engine answers, as our values: decoded JSON, errors, times (docs/spec/lifecycle.md §13).

Fields that newer engines drop or send as null have defaults here; what is read is what all have from API
1.41 on.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from trionode.containers.engine import Conflict, EngineError, EngineFull, NotFound
from trionode.containers.hiding import hide

T = TypeVar("T")
OURS = (1, 41)
"""The oldest API we speak, and the one we speak wherever it is still spoken."""
CONFLICTS = (
    "already exists in network",
    "is already attached to network",
    "already connected",
    "overlap",
    "active endpoints",
    "is in use",
    "is not connected to",
    "is not paused",
    "pre-defined network",
    "already exists",
)
"""What an engine says of a conflict when it answers with another status than 409."""
FULL = ("no space left on device", "disk quota exceeded")
"""What it says of its own disk, with whatever status."""
NOT_RUNNING = "is not running"
_GO_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")
_NEVER = "0001-"


class _Problem(msgspec.Struct):
    message: str = ""


class _Versions(msgspec.Struct, rename="pascal"):
    api_version: str
    min_a_p_i_version: str = msgspec.field(default="", name="MinAPIVersion")


def decode(content: bytes, form: type[T]) -> T:
    """A JSON answer. EngineError when it has another form; its text is not told, it may hold secrets."""
    try:
        return msgspec.json.decode(content, type=form)
    except msgspec.MsgspecError as error:
        raise EngineError(
            f"the engine's answer has an unexpected form: {error}", remedy="is this a Docker engine?"
        ) from None


def error_of(status: int, content: bytes, *, doing: str, secrets: Iterable[str] = ()) -> EngineError:
    """The error of an answer with a status of 400 and more."""
    try:
        said = msgspec.json.decode(content, type=_Problem).message
    except msgspec.MsgspecError:
        said = content.decode(errors="replace").strip()
    return refused(said or f"status {status}", status, doing=doing, secrets=secrets)


def refused(said: str, status: int | None, *, doing: str, secrets: Iterable[str] = ()) -> EngineError:
    """The error for what an engine said, without the secrets of the call."""
    text = f"cannot {doing}: {hide(said, secrets)}"
    if any(words in said.lower() for words in FULL):
        return EngineFull(text, remedy="free some space on the disk of the engine", status=status)
    if status == 404:
        return NotFound(text, status=status)
    if status == 409 or any(words in said for words in CONFLICTS):
        return Conflict(text, status=status)
    if status is None and ("manifest unknown" in said or "not found" in said):
        return NotFound(text)
    return EngineError(text, status=status)


def choose_version(content: bytes) -> str:
    """The API version to speak with an engine, by its answer about versions: ours, or its oldest if newer."""
    said = decode(content, _Versions)
    newest, oldest = _version(said.api_version), _version(said.min_a_p_i_version)
    if newest < OURS:
        raise EngineError(
            f"the engine speaks API {said.api_version} at most", remedy="install Docker 20.10 or newer"
        )
    major, minor = max(OURS, oldest)
    return f"{major}.{minor}"


def time_ms(text: str | None) -> int | None:
    """Unix milliseconds of an engine's time; None for "never"."""
    found = None if not text or text.startswith(_NEVER) else _GO_TIME.fullmatch(text)
    if found is None:
        return None
    whole, fraction, zone = found.groups()
    at = datetime.datetime.fromisoformat(whole + ("+00:00" if zone == "Z" else zone))
    return int(at.timestamp()) * 1000 + int(((fraction or "") + "000")[:3])


def since_of(text: str | None) -> str | None:
    """An engine's time as it wants it back: `seconds.nanoseconds`."""
    ms = time_ms(text)
    found = _GO_TIME.fullmatch(text or "")
    if ms is None or found is None:
        return None
    return f"{ms // 1000}.{((found.group(2) or '') + '000000000')[:9]}"


def labels_of(value: Mapping[str, str] | None) -> Mapping[str, str]:
    return value or {}


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
