"""The route table's row: one value describes a route for the server, its cache and OpenAPI.

Rows: docs/spec/api.md §2-§10. Optional positional parameters fall back to the query string of the
same name (§1.2).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from trionode.api.answers import Reply
from trionode.api.levels import Level

if TYPE_CHECKING:
    from trionode.api.call import Call


class Param(msgspec.Struct, frozen=True):
    """A parameter that may stand in the path (in this order) or in the query string."""

    name: str
    about: str
    kind: str = "string"
    required: bool = False
    query_only: bool = False


class Field(msgspec.Struct, frozen=True):
    """A member of a POST body."""

    name: str
    kind: str
    about: str = ""
    required: bool = True


class Route(msgspec.Struct, frozen=True):
    """One row. `cache_s` 0 = never cached; `result` is the JSON schema of `data` on success.

    `acts`: it changes something, so HEAD does nothing. `streams`: a success may be JSON objects without
    separators, the last one an envelope. `bare`: the schema of a success that is no envelope.
    """

    path: str
    handler: Callable[[Call], Awaitable[Reply]]
    about: str
    group: str
    method: str = "GET"
    level: Level = Level.PUBLIC
    cache_s: int = 0
    params: tuple[Param, ...] = ()
    body: tuple[Field, ...] = ()
    result: dict[str, Any] = {}
    aliases: tuple[str, ...] = ()
    content_type: str = "application/json"
    rare_statuses: tuple[int, ...] = ()
    acts: bool = False
    streams: bool = False
    bare: dict[str, Any] | None = None

    def rules(self) -> list[str]:
        """The URL rules: every spelling, with zero, one, two... positional parameters."""
        positional = [p.name for p in self.params if not p.query_only]
        rules = []
        for path in (self.path, *self.aliases):
            rules.append(path)
            for name in positional:
                rules.append(f"{rules[-1]}/<{name}>")
        return rules


def schema(kind: str | dict[str, Any], *, nullable: bool = False) -> dict[str, Any]:
    """A JSON schema from a short name."""
    made: dict[str, Any] = {"type": kind} if isinstance(kind, str) else dict(kind)
    if nullable and "type" in made:
        types = made["type"] if isinstance(made["type"], list) else [made["type"]]
        made["type"] = [*types, "null"]
    return made


def list_of(item: dict[str, Any]) -> dict[str, Any]:
    """The schema of an array."""
    return {"type": "array", "items": item}


def object_of(**members: dict[str, Any] | str) -> dict[str, Any]:
    """The schema of an object whose members are all present."""
    properties = {name: schema(kind) for name, kind in members.items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


STRING = schema("string")
NUMBER = schema("number")
INTEGER = schema("integer")
BOOLEAN = schema("boolean")
TEXT_OR_NULL = schema("string", nullable=True)
NUMBER_OR_NULL = schema("number", nullable=True)
MESSAGE = object_of(message={})
ANYTHING: dict[str, Any] = {}
