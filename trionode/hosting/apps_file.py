"""The apps of a node from a small TOML file, until a container engine stands behind the port.

    [[app]]
    name = "web"
    hash = "<64 hexadecimal characters>"   # left out: the SHA-256 of the name
    running_since = 2026-01-31T12:00:00Z   # left out: from when this node first announces it

The file is looked at every `sweep_s`; a changed one is read again. A bad or missing file is logged
and the previous list stays; before the first good one `apps()` is None and nothing is announced.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from trionode.errors import ConfigError
from trionode.hosting.port import APPS_CHANGED, RunningApp
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

NAME_LIMIT = 63
HASH_FORM = re.compile("[0-9a-f]{64}")
KEYS = ("name", "hash", "running_since")

Fingerprint = tuple[int, int, int]
"""mtime in ns, size in bytes, inode: enough to see every way editors replace a file."""

log = get_logger("hosting.apps_file")


def parse_apps(text: str, where: str) -> tuple[RunningApp, ...]:
    """The apps of a TOML text, in file order. Raises ConfigError saying what is wrong in `where`."""
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


def _app(row: Mapping[str, Any], where: str) -> RunningApp:
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
    return RunningApp(name, app_hash, _since_ms(row.get("running_since"), f"{where} ({name})"))


def _since_ms(value: object, where: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, datetime.datetime) or value.tzinfo is None:
        raise ConfigError(
            f"{where}: running_since is {value!s}",
            remedy="give a date-time with its zone, e.g. 2026-01-31T12:00:00Z",
        )
    return round(value.timestamp() * 1000)


class AppsFile:
    """Service "apps-file": implements `RunningApps` from a file."""

    name = "apps-file"

    def __init__(self, path: Path, bus: EventBus, counters: Counters, *, sweep_s: float = 2.0) -> None:
        self._path = path
        self._bus = bus
        self._counters = counters
        self._sweep_s = sweep_s
        self._apps: tuple[RunningApp, ...] | None = None
        self._seen: Fingerprint | None = None
        self._complaint = ""

    def apps(self) -> tuple[RunningApp, ...] | None:
        """See `RunningApps.apps`."""
        return self._apps

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read the file now and whenever it has changed."""
        self.sweep()
        task_status.started()
        while True:
            await trio.sleep(self._sweep_s)
            self.sweep()

    def sweep(self) -> None:
        """Look once. A stat and, rarely, the read of a page: too little to leave the event loop for."""
        try:
            status = self._path.stat()
            fingerprint = (status.st_mtime_ns, status.st_size, status.st_ino)
            if fingerprint == self._seen:
                return
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            self._complain(f"cannot read {self._path}: {error}", "check node.apps_file and the file")
            return
        self._seen = fingerprint
        try:
            apps = parse_apps(text, str(self._path))
        except ConfigError as error:
            self._complain(error.message, error.remedy)
            return
        self._complaint = ""
        if apps != self._apps:
            self._apps = apps
            names = [app.name for app in apps]
            log.info("apps file read", path=str(self._path), apps=names)
            self._counters.add("hosting.apps_file.read")
            self._bus.publish(APPS_CHANGED, {"names": names})

    def _complain(self, what: str, remedy: str) -> None:
        if what == self._complaint:
            return  # said once; the sweep would repeat it for ever
        self._complaint = what
        self._counters.add("hosting.apps_file.bad")
        log.error("apps file not usable, keeping the previous list", problem=what, remedy=remedy)
