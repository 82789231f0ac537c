"""The apps of a node from a small TOML file, until a container engine stands behind the port.

    [[app]]
    name = "web"
    hash = "<64 hexadecimal characters>"   # left out: the SHA-256 of the name
    running_since = 2026-01-31T12:00:00Z   # left out: from when this node first announces it
    components = {front = "/data", db = "g:/data"}   # left out: one container, named as the app

The file is looked at every `sweep_s`; a changed one is read again. A bad or missing file is logged
and the previous list stays; before the first good one `apps()` is None and nothing is announced.
Containers are only pretended: they run from the moment they are read, except those of before a reboot of
the machine, which stand still until the boot manager starts them. Removing an app takes its entry out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import trio

from trionode.errors import ConfigError, HostError
from trionode.hosting.apps_text import FileApp, parse_entries, without_app
from trionode.hosting.port import AppNews, RunningApp
from trionode.lifecycle.local import EXITED, RUNNING, Container, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.lifecycle.running import runs_well
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

Fingerprint = tuple[int, int, int]
"""mtime in ns, size in bytes, inode: enough to see every way editors replace a file."""

log = get_logger("hosting.apps_file")


class AppsFile:
    """Service "apps-file": implements `AppHost` on a file.

    `rebooted`: whether the machine was started anew since the last life of this node; asked once.
    """

    name = "apps-file"
    registry_free = True

    def __init__(
        self,
        path: Path,
        bus: EventBus,
        counters: Counters,
        *,
        rebooted: Callable[[], bool] = lambda: False,
        sweep_s: float = 2.0,
    ) -> None:
        self._path = path
        self._bus = bus
        self._counters = counters
        self._rebooted = rebooted
        self._sweep_s = sweep_s
        self._entries: tuple[FileApp, ...] | None = None
        self._states: dict[str, str] = {}
        self._seen: Fingerprint | None = None
        self._complaint = ""
        self._news = AppNews()

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
            entries = parse_entries(text, str(self._path))
        except ConfigError as error:
            self._complain(error.message, error.remedy)
            return
        self._complaint = ""
        if entries != self._entries:
            self._take(entries)

    def _take(self, entries: tuple[FileApp, ...]) -> None:
        state = EXITED if self._entries is None and self._rebooted() else RUNNING
        names = [container_name(part.identifier) for entry in entries for part in entry.components]
        self._states = {name: self._states.get(name, state) for name in names}
        self._entries = entries
        log.info("apps file read", path=str(self._path), apps=[entry.name for entry in entries])
        self._counters.add("hosting.apps_file.read")
        self._tell()

    # --- the port -----------------------------------------------------------------------------

    def apps(self) -> tuple[RunningApp, ...] | None:
        """See `RunningApps.apps`."""
        if self._entries is None:
            return None
        return tuple(
            RunningApp(entry.name, entry.hash, entry.running_since_ms)
            for entry in self._entries
            if runs_well(entry.installed, self._states)
        )

    def names(self) -> frozenset[str]:
        """See `RunningApps.names`."""
        return frozenset(entry.name for entry in self._entries or ())

    def installed(self) -> tuple[InstalledApp, ...]:
        """See `AppHost.installed`; nothing before the first good file."""
        return tuple(entry.installed for entry in self._entries or ())

    async def containers(self) -> tuple[Container, ...]:
        """See `AppHost.containers`."""
        await trio.lowlevel.checkpoint()
        return tuple(Container(name, state) for name, state in self._states.items())

    async def start(self, identifier: str) -> None:
        """See `AppHost.start`."""
        name = container_name(identifier)
        if name not in self._states:
            raise HostError(f"no container {name}", remedy=f"add its app to {self._path}")
        await self._change(name, RUNNING)

    async def stop(self, container: str, grace_s: float) -> None:
        """See `AppHost.stop`."""
        await self._change(container, EXITED)

    async def kill(self, container: str) -> None:
        """See `AppHost.kill`."""
        await self._change(container, EXITED)

    async def remove(self, app: str, *, reason: str) -> None:
        """Take the entry out of the file, for good."""
        await trio.lowlevel.checkpoint()
        try:
            text = self._path.read_text(encoding="utf-8")
            left = without_app(text, app, str(self._path))
            if left != text:
                _replace(self._path, left)
        except (OSError, UnicodeDecodeError) as error:
            raise HostError(
                f"cannot take {app} out of {self._path}: {error}", remedy="let the node write the file"
            ) from error
        except ConfigError as error:
            raise HostError(error.message, remedy=error.remedy) from error
        log.info("app taken out of the apps file", app=app, reason=reason)
        self.sweep()

    async def link(self) -> None:
        """Nothing to connect."""
        await trio.lowlevel.checkpoint()

    # --- inside -------------------------------------------------------------------------------

    async def _change(self, container: str, state: str) -> None:
        await trio.lowlevel.checkpoint()
        if self._states.get(container, state) != state:
            self._states[container] = state
            self._tell()

    def _tell(self) -> None:
        self._news.tell(self._bus, self)

    def _complain(self, what: str, remedy: str) -> None:
        if what == self._complaint:
            return  # said once; the sweep would repeat it for ever
        self._complaint = what
        self._counters.add("hosting.apps_file.bad")
        log.error("apps file not usable, keeping the previous list", problem=what, remedy=remedy)


def _replace(path: Path, text: str) -> None:
    """Write the new text beside the file and put it in its place, with the same access rights."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.chmod(path.stat().st_mode & 0o777)
    os.replace(beside, path)
