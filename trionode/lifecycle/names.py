"""Names of containers and the flags of their data folders (docs/spec/lifecycle.md §13).

An identifier is `component_app`, or the app name alone for specifications up to version 3. Because a
name that begins with `flux` or `zel` gets no prefix but would lose one when parsed (D-1), containers are
matched with the identifiers of the installed apps; parsing is only for containers nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

ENGINE_PREFIXES = ("flux", "zel")
OLD_NAMES = frozenset({"KadenaChainWebNode", "FoldingAtHomeB"})
"""The two oldest apps, whose containers begin with `zel`."""
FLAGS = frozenset("grs")


def container_name(identifier: str) -> str:
    """The container of an identifier: prefixed with `flux` (or `zel`) unless it begins with one."""
    if identifier.startswith(ENGINE_PREFIXES):
        return identifier
    return f"zel{identifier}" if identifier in OLD_NAMES else f"flux{identifier}"


def bare(listed: str) -> str:
    """A container's name without the slash engines list it with."""
    return listed.removeprefix("/")


def is_app_container(listed: str) -> bool:
    """Whether a container may belong to an app at all."""
    return bare(listed).startswith(ENGINE_PREFIXES)


def parse_name(listed: str) -> tuple[str, str]:
    """(component, app) of a container by its name alone; wrong for unprefixed names (D-1)."""
    rest = bare(listed)
    for prefix in ENGINE_PREFIXES:
        if rest.startswith(prefix):
            rest = rest[len(prefix) :]
            break
    component, separator, app = rest.partition("_")
    # "_watchtower" has no component before the underscore: the whole is its name.
    return (component, app) if separator and component else (rest, rest)


def containers_of(app: str, listed: Iterable[str]) -> list[str]:
    """The containers of an app among all names, in their order: exact, never a prefix match."""
    form = re.compile(rf"(?:flux|zel)[A-Za-z0-9]+_{re.escape(app)}")
    single = container_name(app)
    return [name for name in map(bare, listed) if name == single or form.fullmatch(name)]


def true_flags(container_data: str) -> frozenset[str]:
    """The file sync flags of a `containerData`: those before the first path, and nowhere else (D-2)."""
    first = container_data.split("|", 1)[0].strip()
    if first.startswith("/"):
        return frozenset()
    head, separator, _ = first.partition(":")
    return FLAGS & set(head) if separator else frozenset()
