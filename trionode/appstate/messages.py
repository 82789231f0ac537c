"""Validated payloads of the seven app-state message types (docs/spec/events.md §4, §13.1, §13.2).

Validation comes first and once: a payload that is refused here leaves no trace anywhere. What the
network accepts is accepted, also when it is odd (a name with apps, unknown members).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from sys import intern
from typing import TypeAlias

import msgspec

from trionode.appstate.decision import Refusal
from trionode.appstate.windows import Windows
from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import JsValue

MAX_DATE_MS = 8_640_000_000_000_000
"""The largest time a JavaScript date can hold."""

RUNNING = "fluxapprunning"
INSTALLING = "fluxappinstalling"
INSTALL_ERROR = "fluxappinstallingerror"
REMOVED = "fluxappremoved"
IP_CHANGED = "fluxipchanged"
NODE_SIGTERM = "fluxnodesigterm"

Data: TypeAlias = dict[str, JsValue]


class App(msgspec.Struct, frozen=True, gc=False):
    """One app of a running message; `running_since` as received."""

    name: str
    hash: str
    running_since: JsValue = None


class Running(msgspec.Struct, frozen=True):
    """`fluxapprunning` 1 or 2. `apps` are the apps for the cache: the list of a v2, the one of a v1."""

    ip: str
    at_ms: int
    version: int
    apps: tuple[App, ...]
    dedup_key: str
    data: Data


class Removed(msgspec.Struct, frozen=True):
    """`fluxappremoved` 1."""

    ip: str
    at_ms: int
    app_name: str


class IpChanged(msgspec.Struct, frozen=True):
    """`fluxipchanged` 1."""

    old_ip: str
    new_ip: str
    at_ms: int


class NodeSigterm(msgspec.Struct, frozen=True):
    """`fluxnodesigterm`."""

    ip: str
    at_ms: int


class Installing(msgspec.Struct, frozen=True):
    """`fluxappinstalling` 1."""

    ip: str
    at_ms: int
    name: str


class InstallError(msgspec.Struct, frozen=True):
    """`fluxappinstallingerror` 1."""

    ip: str
    at_ms: int
    name: str
    hash: str
    error: str


Message: TypeAlias = Running | Removed | IpChanged | NodeSigterm | Installing | InstallError


def refuse(reason: str, detail: str) -> Refusal:
    return Refusal("validate", reason, detail)


def _text(data: Data, member: str, *, empty: bool = False) -> str:
    """A text member. Lone surrogates are refused: such a name cannot be stored or shown anywhere."""
    value = data.get(member)
    if not isinstance(value, str):
        raise refuse(f"{member}_not_text", f"{member} is {value!r:.60}, a text is needed")
    if not value and not empty:
        raise refuse(f"{member}_empty", f"{member} is empty")
    return stored_text(value, member)


def stored_text(value: str, member: str) -> str:
    """The text interned. Raises Refusal when it cannot be written as UTF-8."""
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise refuse(f"{member}_not_unicode", f"{member} holds half a character") from None
    return intern(value) if type(value) is str else str(value)


def check_signed(envelope: Envelope) -> None:
    """Refuse envelope texts that no key or signature is made of. Raises Refusal."""
    if not (envelope.pub_key.isascii() and envelope.signature.isascii()):
        raise refuse("signature_not_ascii", "pubKey and signature are hex and Base64")


def _at_ms(data: Data, now_ms: int, windows: Windows) -> int:
    """broadcastedAt as whole milliseconds, not more than the tolerance ahead of the clock (§13.2)."""
    value = data.get("broadcastedAt")
    if value is None or (type(value) is not int and type(value) is not float):
        raise refuse("broadcasted_at_not_number", f"broadcastedAt is {value!r:.60}, a number is needed")
    if not -MAX_DATE_MS <= value <= MAX_DATE_MS:
        raise refuse("broadcasted_at_no_date", f"broadcastedAt {value!r} is no date")
    at_ms = int(value)
    if at_ms > now_ms + windows.future_ms:
        raise refuse(
            "broadcasted_at_in_future",
            f"broadcastedAt is {at_ms - now_ms} ms ahead, {windows.future_ms} ms are allowed",
        )
    if not at_ms:
        raise refuse("broadcasted_at_zero", "broadcastedAt is 0")
    return at_ms


def _version(data: Data, *allowed: int) -> int:
    value = data.get("version")
    kind = type(value)
    if kind is not int and kind is not float:
        raise refuse("version_not_number", f"version is {value!r:.60}, a number is needed")
    if value not in allowed:
        raise refuse("version_unknown", f"version {value} is not known, {allowed} are")
    return int(value)


def _apps(entries: JsValue, windows: Windows) -> tuple[App, ...]:
    if not isinstance(entries, list):
        raise refuse("apps_not_list", "apps is not a list")
    if len(entries) > windows.max_apps:
        raise refuse("too_many_apps", f"{len(entries)} apps, {windows.max_apps} are allowed")
    apps = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise refuse("app_not_object", "an entry of apps is no object")
        name, hash_ = entry.get("name"), entry.get("hash")
        if not isinstance(name, str) or not isinstance(hash_, str):
            raise refuse("app_without_name_or_hash", "an entry of apps lacks name or hash")
        apps.append(App(stored_text(name, "name"), stored_text(hash_, "hash"), entry.get("runningSince")))
    return tuple(apps)


def read_running(data: Data, now_ms: int, windows: Windows) -> Running:
    """Validate a running payload. Raises Refusal."""
    at_ms = _at_ms(data, now_ms, windows)
    ip = _text(data, "ip")
    version = _version(data, 1, 2)
    entries = data.get("apps")
    # JavaScript's truth, as the original picks the key: an empty list counts, null does not (§3).
    listed = isinstance(entries, list | dict) or bool(entries)
    if version == 2:
        return Running(ip, at_ms, version, _apps(entries, windows), "v2", data)
    name, hash_ = _text(data, "name", empty=True), _text(data, "hash", empty=True)
    if listed:
        _apps(entries, windows)
    app = App(name, hash_)
    return Running(ip, at_ms, version, (app,), "v2" if listed else f"v1:{name}", data)


def _read_removed(data: Data, now_ms: int, windows: Windows) -> Removed:
    at_ms = _at_ms(data, now_ms, windows)
    _version(data, 1)
    return Removed(_text(data, "ip"), at_ms, _text(data, "appName"))


def _read_ip_changed(data: Data, now_ms: int, windows: Windows) -> IpChanged:
    at_ms = _at_ms(data, now_ms, windows)
    _version(data, 1)
    old_ip, new_ip = _text(data, "oldIP"), _text(data, "newIP")
    if old_ip == new_ip:
        raise refuse("same_ip", f"oldIP and newIP are both {old_ip}")
    return IpChanged(old_ip, new_ip, at_ms)


def _read_sigterm(data: Data, now_ms: int, windows: Windows) -> NodeSigterm:
    # No version check: the network has none here, and only version 1 is ever sent.
    return NodeSigterm(_text(data, "ip"), _at_ms(data, now_ms, windows))


def _read_installing(data: Data, now_ms: int, windows: Windows) -> Installing:
    at_ms = _at_ms(data, now_ms, windows)
    _version(data, 1)
    return Installing(_text(data, "ip"), at_ms, _text(data, "name"))


def _read_install_error(data: Data, now_ms: int, windows: Windows) -> InstallError:
    at_ms = _at_ms(data, now_ms, windows)
    _version(data, 1)
    error = data.get("error")
    if not isinstance(error, str):
        raise refuse("error_not_text", f"error is {error!r:.60}, a text is needed")
    # An error text cut in the middle of a character is still worth keeping.
    shown = error if error.isascii() else error.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return InstallError(_text(data, "ip"), at_ms, _text(data, "name"), _text(data, "hash", empty=True), shown)


_READERS: dict[str, Callable[[Data, int, Windows], Message]] = {
    RUNNING: read_running,
    INSTALLING: _read_installing,
    INSTALL_ERROR: _read_install_error,
    REMOVED: _read_removed,
    IP_CHANGED: _read_ip_changed,
    NODE_SIGTERM: _read_sigterm,
}


def read_message(data: Data, now_ms: int, windows: Windows) -> Message:
    """Validate any app-state payload. Raises Refusal (stop "dispatch" for a type of someone else)."""
    kind = data.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise Refusal("dispatch", "unknown_type", f"type {kind!r:.60} is no app-state message")
    return reader(data, now_ms, windows)


@lru_cache(maxsize=65_536)
def _iso_ms(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def date_ms(value: JsValue) -> int | None:
    """A payload value as a date in milliseconds: a number or an ISO text; None for anything else."""
    kind = type(value)
    if kind is int or kind is float:
        return int(value) if -MAX_DATE_MS <= value <= MAX_DATE_MS else None
    return _iso_ms(value) if kind is str else None
