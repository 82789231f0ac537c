"""The text of an apps file: read it, and take an app out of it (see `hosting.apps_file`)."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trionode.errors import ConfigError
from trionode.hosting.port import RunningApp
from trionode.lifecycle.local import Component, InstalledApp

NAME_LIMIT = 63
HASH_FORM = re.compile("[0-9a-f]{64}")
KEYS = ("name", "hash", "running_since", "components")
HEADER = re.compile(r"\s*\[\[\s*app\s*\]\]")


class FileApp(msgspec.Struct, frozen=True):
    """One entry of the file."""

    name: str
    hash: str
    running_since_ms: int | None
    components: tuple[Component, ...]

    @property
    def installed(self) -> InstalledApp:
        """The entry as a local row."""
        return InstalledApp(self.name, self.hash, self.components)


def parse_apps(text: str, where: str) -> tuple[RunningApp, ...]:
    """The apps of a TOML text, in file order. Raises ConfigError saying what is wrong in `where`."""
    return tuple(RunningApp(e.name, e.hash, e.running_since_ms) for e in parse_entries(text, where))


def parse_entries(text: str, where: str) -> tuple[FileApp, ...]:
    """The same with their components."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: {error}", remedy="correct the TOML") from error
    unknown = sorted(set(content) - {"app"})
    rows = content.get("app", [])
    if unknown or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        wrong = f"unknown key {unknown[0]!r}" if unknown else "`app` is no list of tables"
        raise ConfigError(f"{where}: {wrong}", remedy="write one [[app]] table for each app")
    apps = tuple(_app(row, f"{where}: app {number}") for number, row in enumerate(rows, start=1))
    seen: set[str] = set()
    for app in apps:
        if app.name in seen:
            raise ConfigError(f"{where}: app {app.name!r} is there twice", remedy="name each app once")
        seen.add(app.name)
    return apps


def without_app(text: str, name: str, where: str) -> str:
    """The text without one app; comments stay where they can. Raises ConfigError on a bad text."""
    entries = parse_entries(text, where)
    wanted = tuple(entry for entry in entries if entry.name != name)
    if wanted == entries:
        return text
    blocks = _blocks(text)
    for place in range(1, len(blocks)):
        left = "".join(blocks[:place] + blocks[place + 1 :])
        try:
            if parse_entries(left, where) == wanted:
                return left
        except ConfigError:
            continue
    return _written(wanted)


def _blocks(text: str) -> list[str]:
    """What stands above the first [[app]], then one block for each, with the comments above it."""
    blocks: list[list[str]] = [[]]
    above: list[str] = []
    for line in text.splitlines(keepends=True):
        if HEADER.match(line):
            if len(blocks) == 1:
                blocks[0] += above  # it speaks of the whole file
                above = []
            blocks.append([*above, line])
            above = []
        elif not line.strip() or line.lstrip().startswith("#"):
            above.append(line)
        else:
            blocks[-1] += [*above, line]
            above = []
    blocks[-1] += above
    return ["".join(block) for block in blocks]


def _written(entries: Sequence[FileApp]) -> str:
    """The plain text of entries, for files whose form gives no hold."""
    lines: list[str] = []
    for entry in entries:
        lines += ["[[app]]", f"name = {json.dumps(entry.name)}", f"hash = {json.dumps(entry.hash)}"]
        if entry.running_since_ms is not None:
            since = datetime.datetime.fromtimestamp(entry.running_since_ms / 1000, datetime.UTC)
            lines.append(f"running_since = {since.isoformat()}")
        if entry.components != (Component(entry.name),):
            parts = (f"{_part(c, entry.name)} = {json.dumps(c.container_data)}" for c in entry.components)
            lines.append(f"components = {{{', '.join(parts)}}}")
        lines.append("")
    return "\n".join(lines)


def _part(component: Component, app: str) -> str:
    return component.identifier.removesuffix(f"_{app}")


def _app(row: Mapping[str, Any], where: str) -> FileApp:
    unknown = sorted(set(row) - set(KEYS))
    if unknown:
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}", remedy=f"known are {', '.join(KEYS)}")
    name = row.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LIMIT or not name.isalnum():
        raise ConfigError(f"{where}: name is {name!r}", remedy=f"give 1 to {NAME_LIMIT} letters and digits")
    app_hash = row.get("hash", hashlib.sha256(name.encode()).hexdigest())
    if not isinstance(app_hash, str) or not HASH_FORM.fullmatch(app_hash):
        raise ConfigError(
            f"{where} ({name}): hash is {app_hash!r}",
            remedy="give 64 lower-case hexadecimal characters or leave it out",
        )
    here = f"{where} ({name})"
    since_ms = _since_ms(row.get("running_since"), here)
    return FileApp(name, app_hash, since_ms, _components(row.get("components"), name, here))


def _components(value: object, app: str, where: str) -> tuple[Component, ...]:
    if value is None:
        return (Component(app),)
    good = isinstance(value, dict) and all(
        0 < len(name) <= NAME_LIMIT and name.isalnum() and isinstance(data, str)
        for name, data in value.items()
    )
    if not good or not isinstance(value, dict):
        raise ConfigError(
            f"{where}: components is {value!r}",
            remedy='give a table of names and container data, e.g. {front = "/data", db = "g:/data"}',
        )
    return tuple(Component(f"{name}_{app}", data) for name, data in value.items())


def _since_ms(value: object, where: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, datetime.datetime) or value.tzinfo is None:
        raise ConfigError(
            f"{where}: running_since is {value!s}",
            remedy="give a date-time with its zone, e.g. 2026-01-31T12:00:00Z",
        )
    return round(value.timestamp() * 1000)
