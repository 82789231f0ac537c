"""Looking into the containers of an app: logs, details, numbers, commands inside (docs/spec/api.md §8.2).

What a container was given in secret (environment, command line) is shown to the owner of the app alone; to
others environment variables have their names only.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import trio

from trionode.api.answers import Answer, ApiFailure, Raw, Stream, data
from trionode.api.appcall import (
    ENGINE_ANSWER_S,
    TARGET,
    caller_of,
    desk_of,
    engine_troubles,
    in_time,
    one_container,
    owner_of,
    target_of,
)
from trionode.api.call import Call
from trionode.api.commandstream import STREAM_HEADERS
from trionode.api.containersport import ContainersPort
from trionode.api.delivery import JSON_TYPE, encode_json
from trionode.api.levels import Level
from trionode.api.route import INTEGER, STRING, Field, Param, Route, list_of, schema
from trionode.containers.disk import DiskError
from trionode.containers.engine import LogLine
from trionode.errors import WireError
from trionode.plans.control import app_of
from trionode.wire import jsjson

LINES_DEFAULT = 100
LINES_MAX = 10_000
LOG_BYTES_MAX = 8 * 1024 * 1024
"""A log of longer lines loses its oldest ones."""
ENV_TEXTS_MAX = 1_000
_MS_FROM = 10**11
COMMAND_TITLES = ("CMD", "COMMAND", "ARGS")
"""A number above it is milliseconds."""
OBJECT = {"type": "object"}


# ---- logs --------------------------------------------------------------------------------------------------


async def log(call: Call) -> Answer:
    """The last lines as one text."""
    containers, container = one_container(call)
    found = await _tail(containers, container, _lines(call))
    return data("\n".join(line.text for line in found))


async def log_polling(call: Call) -> Raw:
    """Lines with their times, for clients that ask again and again."""
    containers, container = one_container(call)
    lines, since = _lines(call), call.text("since")
    # one more than asked for tells whether there are more
    found = await _tail(containers, container, lines + 1, since_s=_since_s(since), timestamps=True)
    kept = found[-lines:]
    content = {
        "logs": [f"{line.at} {line.text}" if line.at else line.text for line in kept],
        "lineCount": lines,
        "logCount": len(kept),
        "sinceTimestamp": since or None,
        "truncated": len(found) > len(kept),
        "status": "success",
    }
    return Raw(encode_json(content), JSON_TYPE)


def _lines(call: Call) -> int:
    if call.text("lines").lower() == "all":
        return LINES_MAX
    return call.number("lines", default=LINES_DEFAULT, low=1, high=LINES_MAX)


def _since_s(text: str) -> float | None:
    """A Unix time (seconds or milliseconds) or an ISO date. Raises ApiFailure."""
    if not text:
        return None
    if re.fullmatch(r"\d{1,15}(\.\d{1,9})?", text, re.ASCII):
        number = float(text)
        return number / 1000 if number > _MS_FROM else number
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise ApiFailure("Parameter since must be a Unix time or an ISO date") from error


async def _tail(
    containers: ContainersPort,
    container: str,
    lines: int,
    *,
    since_s: float | None = None,
    timestamps: bool = False,
) -> Sequence[LogLine]:
    async def read() -> list[LogLine]:
        found: list[LogLine] = []
        size = 0
        opened = containers.engine.logs(container, lines=lines, since_s=since_s, timestamps=timestamps)
        async with opened as entries:
            async for entry in entries:
                found.append(entry)
                size += len(entry.text)
        while size > LOG_BYTES_MAX:
            size -= len(found.pop(0).text)
        return found

    return await in_time(read())


@asynccontextmanager
async def _followed(
    containers: ContainersPort, container: str, lines: int
) -> AsyncIterator[AsyncIterator[bytes]]:
    async with containers.engine.logs(container, lines=lines, follow=True, timestamps=True) as entries:
        yield _as_json(entries)


async def _as_json(entries: AsyncIterator[LogLine]) -> AsyncIterator[bytes]:
    async for entry in entries:
        yield encode_json({"stream": entry.stream, "at": entry.at, "text": entry.text}) + b"\n"


async def follow(call: Call) -> Stream:
    """The last lines and what follows, one JSON object a line, until the client leaves (ours)."""
    containers, container = one_container(call)
    lines = call.number("lines", default=LINES_DEFAULT, low=1, high=LINES_MAX)
    with engine_troubles():
        output = await desk_of(call).pump(lambda: _followed(containers, container, lines), caller_of(call))
    return Stream(output, {**STREAM_HEADERS, "Content-Type": "application/x-ndjson"})


# ---- details and numbers -----------------------------------------------------------------------------------


async def inspect(call: Call) -> Answer:
    containers, container = one_container(call)
    found = await in_time(containers.engine.inspect(container))
    return data(dict(found.document) if await _is_owner(call) else without_secrets(found.document))


async def _is_owner(call: Call) -> bool:
    """Whether it is the owner of the app who asks, and not only somebody who may look after it."""
    owner = await owner_of(call, app_of(target_of(call)))
    return call.authority.allows_for_app(Level.OWNER, call.credentials, owner)


def without_secrets(document: Mapping[str, Any]) -> dict[str, Any]:
    """An engine's document of a container without the values of its environment, its command lines, and what
    the engine and its own check said: they quote both."""
    found = dict(document)
    config, state = dict(found.get("Config") or {}), dict(found.get("State") or {})
    if "Env" in config:
        config["Env"] = [_name_of(str(entry)) for entry in config["Env"] or ()]
    for holder, name in ((config, "Cmd"), (config, "Entrypoint"), (found, "Args")):
        if holder.get(name):
            holder[name] = []
    if found.get("Path"):
        found["Path"] = ""
    if config.get("Healthcheck"):
        config["Healthcheck"] = {**config["Healthcheck"], "Test": []}
    if state.get("Error"):
        state["Error"] = ""
    if state.get("Health"):
        state["Health"] = {**state["Health"], "Log": []}
    if "Config" in found:
        found["Config"] = config
    if "State" in found:
        found["State"] = state
    return found


def _name_of(entry: str) -> str:
    """Of an entry of an environment; one without a name has nothing that may be shown."""
    name, separator, _ = entry.partition("=")
    return name + separator if separator else ""


async def stats(call: Call) -> Answer:
    containers, container = one_container(call)
    return data(await _sample(containers, container))


async def _sample(containers: ContainersPort, container: str) -> dict[str, Any]:
    """One sample of the engine, with how full its volume is and how much CPU it may use."""
    found = dict(await in_time(containers.engine.stats(container)))
    details = await in_time(containers.engine.inspect(container))
    try:
        with trio.move_on_after(ENGINE_ANSWER_S):
            used = await containers.disk.usage(container)
            if used is not None:
                found["disk_stats"] = {"used": used.used_bytes, "total": used.total_bytes}
    except DiskError as error:
        found["disk_stats"] = {"problem": error.message}
    return {**found, "nanoCpus": details.nano_cpus}


async def monitor_stream(call: Call) -> Stream:
    """About one sample a second until the client leaves."""
    containers, container = one_container(call)

    @asynccontextmanager
    async def samples() -> AsyncIterator[AsyncIterator[bytes]]:
        async with containers.engine.stats_stream(container) as found:
            yield _encoded(found)

    with engine_troubles():
        output = await desk_of(call).pump(samples, caller_of(call))
    return Stream(output, STREAM_HEADERS)


async def _encoded(found: AsyncIterator[Mapping[str, Any]]) -> AsyncIterator[bytes]:
    async for sample in found:
        yield encode_json(dict(sample))


async def top(call: Call) -> Answer:
    containers, container = one_container(call)
    found = dict(await in_time(containers.engine.top(container)))
    return data(found if await _is_owner(call) else without_arguments(found))


def without_arguments(processes: Mapping[str, Any]) -> dict[str, Any]:
    """An engine's list of processes with the programs alone: arguments may be secret."""
    titles = [str(title) for title in processes.get("Titles") or ()]
    at = [number for number, title in enumerate(titles) if title in COMMAND_TITLES]
    rows = [list(row) for row in processes.get("Processes") or ()]
    for row in rows:
        for number in at:
            row[number:] = [str(row[number]).partition(" ")[0]] if number < len(row) else []
    return {**processes, "Processes": rows}


async def changes(call: Call) -> Answer:
    containers, container = one_container(call)
    found = await in_time(containers.engine.changes(container))
    return data([dict(change) for change in found])


# ---- commands inside ---------------------------------------------------------------------------------------


async def execute(call: Call) -> Stream:
    """Run a command in a container; its output as it comes. A client that leaves ends the output: the
    command goes on in the container until it ends by itself."""
    containers, container = one_container(call)
    command, environment = _texts(call, "cmd"), _texts(call, "env")
    if not command:
        raise ApiFailure("No command specified")
    with engine_troubles():
        output = await desk_of(call).pump(
            lambda: containers.engine.exec(container, command, environment), caller_of(call)
        )
    headers = {**STREAM_HEADERS, "Content-Type": "application/octet-stream"}
    return Stream(output, headers)


def _texts(call: Call, name: str) -> list[str]:
    """A list of texts, which forms send as JSON. Raises ApiFailure."""
    value = call.body.get(name)
    if isinstance(value, str) and value:
        try:
            value = jsjson.parse(value)
        except WireError as error:
            raise ApiFailure(f"{name} must be a list of texts") from error
    if not value:
        return []
    if (
        not isinstance(value, list)
        or len(value) > ENV_TEXTS_MAX
        or not all(isinstance(text, str) for text in value)
    ):
        raise ApiFailure(f"{name} must be a list of texts")
    return [str(text) for text in value]


_GROUP = "looking into apps"
_LINES = Param("lines", f"At most so many, {LINES_DEFAULT} by default; `all`: {LINES_MAX}")


def _route(path: str, serve: Any, about: str, *, params: tuple[Param, ...] = (), **more: Any) -> Route:
    return Route(path, serve, about, _GROUP, level=Level.OWNER_OR_ABOVE, params=(TARGET, *params), **more)


ROUTES = (
    _route("/apps/applog", log, "The last lines of a log", params=(_LINES,), result=STRING),
    _route(
        "/apps/applogpolling",
        log_polling,
        "The last lines of a log with their times, since a time",
        params=(_LINES, Param("since", "Unix time or ISO date")),
        bare={
            "type": "object",
            "properties": {
                "logs": list_of(STRING),
                "lineCount": INTEGER,
                "logCount": INTEGER,
                "sinceTimestamp": schema("string", nullable=True),
                "truncated": {"type": "boolean"},
                "status": {"const": "success"},
            },
            "required": ["logs", "lineCount", "logCount", "sinceTimestamp", "truncated", "status"],
        },
    ),
    _route(
        "/trionode/applog",
        follow,
        "A log and what follows, one JSON object a line, until the client leaves",
        params=(Param("lines", "At most so many to begin with", kind="integer"),),
        content_type="application/x-ndjson",
        acts=True,
    ),
    _route("/apps/appinspect", inspect, "What the engine knows of a container", result=OBJECT),
    _route("/apps/appstats", stats, "One sample of what a container uses", result=OBJECT),
    _route("/apps/apptop", top, "Processes of a container", result=OBJECT),
    _route("/apps/appchanges", changes, "Files changed against the image", result=list_of(OBJECT)),
    _route(
        "/apps/appmonitorstream",
        monitor_stream,
        "A sample about once a second, until the client leaves",
        result=OBJECT,
        streams=True,
        acts=True,
    ),
    Route(
        "/apps/appexec",
        execute,
        "Run a command in a container; its output as it comes",
        _GROUP,
        method="POST",
        level=Level.OWNER,
        body=(
            Field("appname", "string", TARGET.about),
            Field("cmd", "array", "The command and its arguments"),
            Field("env", "array", "NAME=value texts", required=False),
        ),
        content_type="application/octet-stream",
        acts=True,
    ),
)
