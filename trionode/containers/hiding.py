"""What an engine says, without the secrets of a container (docs/spec/lifecycle.md §13).

An engine quotes what it was given: "exec: "--token=...": executable file not found". Its words go into logs,
answers and records that others read, so they are cleared of environment and command lines first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from trionode.containers.engine import Engine, EngineError, EngineUnreachable, NotFound

SHORTEST_SECRET = 4
HIDDEN = "***"
NO_SECRETS = ("FLUX_APP_NAME=", "FLUX_NODE_HOST_IP=")
"""What every container is given by its node (lifecycle.md §13); everybody knows it."""


def hide(text: str, entries: Iterable[str]) -> str:
    """The text without these; each counts whole and behind its first '=', as it is and as it is quoted."""
    values: set[str] = set()
    for entry in entries:
        if not entry.startswith(NO_SECRETS):
            values.update(_forms(entry), _forms(entry.partition("=")[2]))
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    return text


def cleared(error: EngineError, entries: Iterable[str]) -> EngineError:
    """The same error without these."""
    return type(error)(hide(error.message, entries), remedy=error.remedy, status=error.status)


async def start_container(engine: Engine, name: str) -> None:
    """Start a container. What the engine says when it cannot is cleared of what the container was given.

    Raises EngineError.
    """
    try:
        await engine.start(name)
    except (EngineUnreachable, NotFound):
        raise
    except EngineError as error:
        raise await _of_start(engine, name, error) from None


async def _of_start(engine: Engine, name: str, error: EngineError) -> EngineError:
    try:
        document = (await engine.inspect(name)).document
    except EngineError:
        # without knowing what it was given nothing of the engine's words may be told
        return type(error)(f"the engine cannot start {name}", remedy=error.remedy, status=error.status)
    return cleared(error, given_to(document))


def given_to(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Environment and command lines in an engine's document of a container."""
    config = document.get("Config") or {}
    check = (config.get("Healthcheck") or {}).get("Test")
    lines = [config.get("Env"), config.get("Cmd"), config.get("Entrypoint"), check, document.get("Args")]
    found = [entry for line in lines for entry in (line if isinstance(line, list) else [line])]
    return tuple(entry for entry in found if isinstance(entry, str))


def _forms(value: str) -> set[str]:
    """A text as it is, and as programs quote it."""
    quoted = {json.dumps(value, ensure_ascii=ascii)[1:-1] for ascii in (False, True)}
    return {value, *quoted}
