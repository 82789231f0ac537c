"""Slim facts: what the rules need of an event, without its text (docs/spec/events.md §3, §6).

Thousands of nodes repeat the same app names, hashes and addresses, so these strings are interned.
"""

from __future__ import annotations

from sys import intern
from typing import TypeAlias

import msgspec

from trionode.appstate.documents import APPREMOVED, APPRUNNING, IPCHANGED, EventRow
from trionode.wire.jsjson import JsValue, parse


class AppFact(msgspec.Struct, frozen=True, gc=False):
    """One entry of a running message's `apps`; `hash` as received, None when absent."""

    name: str
    hash: JsValue
    running_since: JsValue = None


class RunningFact(msgspec.Struct, frozen=True, gc=False):
    """A running message. `apps` is None when the payload has no such member, `name` likewise."""

    at_ms: int
    expire_at_ms: int
    apps: tuple[AppFact, ...] | None
    name: str | None
    hash: JsValue
    running_since: JsValue
    os_uptime: JsValue
    static_ip: JsValue


class PointFact(msgspec.Struct, frozen=True, gc=False):
    """A removal, a shutdown or an eviction: something that happened at one moment."""

    at_ms: int
    expire_at_ms: int


class MoveFact(msgspec.Struct, frozen=True, gc=False):
    """A change of address."""

    at_ms: int
    expire_at_ms: int
    new_ip: str


Fact: TypeAlias = RunningFact | PointFact | MoveFact


def running_fact(data: dict[str, JsValue], at_ms: int, expire_at_ms: int) -> RunningFact:
    """The fact of a running payload. A message with `apps` counts as a list, also when it has a name."""
    get = data.get
    apps: tuple[AppFact, ...] | None = None
    if "apps" in data:
        entries = get("apps")
        apps = tuple(
            [
                AppFact(intern(entry["name"]), _shared(entry.get("hash")), entry.get("runningSince"))
                for entry in (entries if isinstance(entries, list) else ())
                if isinstance(entry, dict) and isinstance(entry.get("name"), str)
            ]
        )
    name = get("name")
    return RunningFact(
        at_ms,
        expire_at_ms,
        apps,
        intern(name) if isinstance(name, str) else None,
        _shared(get("hash")),
        get("runningSince"),
        get("osUptime"),
        get("staticIp"),
    )


def _shared(value: JsValue) -> JsValue:
    return intern(value) if isinstance(value, str) else value


def _text(value: JsValue) -> str:
    return intern(value) if isinstance(value, str) else ""


def fact_of(row: EventRow) -> Fact:
    """The fact of a stored document (start-up, refold). Raises WireError if its text is not JSON."""
    if row.type == APPRUNNING or row.type == IPCHANGED:
        data = parse(row.data_text) if row.data_text else {}
        if row.type == APPRUNNING:
            return running_fact(data, row.at_ms, row.expire_at_ms)
        return MoveFact(row.at_ms, row.expire_at_ms, _text(data.get("newIP")))
    return PointFact(row.at_ms, row.expire_at_ms)


def removed_name(dedup_key: str) -> str:
    """The app name inside the dedup key of a removal."""
    return intern(dedup_key.removeprefix(APPREMOVED + ":"))
