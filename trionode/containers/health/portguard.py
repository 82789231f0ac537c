"""PortGuard: the ports of installed apps stay open at the firewall (docs/spec/lifecycle.md §1.1, §20).

An install opens them; a firewall that is switched on, reset or restored later knows nothing of them. They are
compared from time to time, and what is missing is opened again. Apps something is being done to, or whose
removal has begun, are left alone: their ports come and go with that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import trio

from trionode.config.tree import MonitorSettings
from trionode.containers.disk import Firewall
from trionode.containers.install.records import AppRecord
from trionode.containers.operations import Operations
from trionode.errors import HostError
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

LIMIT_S = 300.0
RETRY_S = 60.0

log = get_logger("containers.portguard")


class Records(Protocol):
    """What apps have on this machine (`containers.install.records.InstallRecords`)."""

    def all(self) -> tuple[AppRecord, ...]: ...


class PortGuard:
    """Service "app ports"."""

    name = "app ports"

    def __init__(
        self,
        settings: MonitorSettings,
        *,
        firewall: Firewall,
        records: Records,
        operations: Operations,
        counters: Counters,
    ) -> None:
        self._interval_s = settings.port_restore_interval_s
        self._firewall = firewall
        self._records = records
        self._operations = operations
        self._counters = counters

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Compare at once, and again until cancelled."""
        task_status.started()
        while True:
            pause_s = await self._restore()
            await trio.sleep(pause_s)

    async def _restore(self) -> float:
        """Seconds until the next time."""
        try:
            with trio.move_on_after(LIMIT_S):
                for port in await self._firewall.missing(tuple(self._ports())):
                    await self._open(port)
                return self._interval_s
            problem = f"not done within {LIMIT_S:g} s"
        except HostError as error:
            problem = error.one_line()
        self._counters.add("containers.portguard.failed")
        log.error("ports of apps not compared with the firewall, tried again", problem=problem)
        return RETRY_S

    async def _open(self, port: int) -> None:
        app = self._ports().get(port)
        if app is None:
            return
        await self._firewall.allow(port, app=app)
        self._counters.add("containers.portguard.restored")
        log.warning("port of an app was not open at the firewall, it is again", app=app, port=port)
        if port not in self._ports(going=True):  # its app left meanwhile
            await self._firewall.forget(port, app=app)

    def _ports(self, *, going: bool = False) -> Mapping[int, str]:
        """Port -> app. `going`: also of apps something is being done to, which see to their ports."""
        busy = frozenset() if going else self._operations.names()
        return {
            port: record.app
            for record in self._records.all()
            if going or not (record.is_unfinished or record.app in busy)
            for part in record.parts
            for port in part.ports
        }
