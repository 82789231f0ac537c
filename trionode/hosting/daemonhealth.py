"""Daemon health: a node whose daemon stays behind for hours gives its apps back (lifecycle.md §10).

The rule is `lifecycle.monitors.after_check`; between two checks nothing is measured, and a check while
apps are being removed does not count.
"""

from __future__ import annotations

from typing import Protocol

import trio

from trionode.config.tree import BootSettings, MonitorSettings
from trionode.hosting.removal import AppRemoval, Leaving
from trionode.lifecycle.monitors import DaemonHealth, after_check
from trionode.runtime.logs import get_logger

REASON = "daemon not synced"

log = get_logger("hosting.daemonhealth")


class SyncFacts(Protocol):
    """What the check must know from the chain."""

    @property
    def synced(self) -> bool: ...


class DaemonWatch:
    """Service "daemonhealth"."""

    name = "daemonhealth"

    def __init__(
        self, settings: MonitorSettings, boot: BootSettings, *, facts: SyncFacts, removal: AppRemoval
    ) -> None:
        self._settings = settings
        self._first_delay_s = boot.daemon_health_delay_s * boot.delay_factor
        self._interval_s = boot.daemon_health_interval_s * boot.delay_factor
        self._facts = facts
        self._removal = removal
        self._health = DaemonHealth()

    @property
    def unsynced_for_s(self) -> float | None:
        """How long the daemon has been behind, as far as the checks saw; None when it is not."""
        since_s = self._health.unsynced_since_s
        return None if since_s is None else trio.current_time() - since_s

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check until cancelled."""
        task_status.started()
        await trio.sleep(self._first_delay_s)
        while True:
            if not self._removal.in_progress:
                await self._check()
            await trio.sleep(self._interval_s)

    def leaving(self) -> Leaving | None:
        """When all apps have to go if the daemon stays behind; None while it does not, or when they went."""
        health, due = self._after_check()
        if health.unsynced_since_s is None or (health.removed and not due):
            return None
        due_s = health.unsynced_since_s + self._settings.unsynced_removal_s
        return Leaving(REASON, due_s, self._settings.unsynced_removal_spacing_s)

    def _after_check(self) -> tuple[DaemonHealth, bool]:
        return after_check(
            self._health,
            synced=self._facts.synced,
            now_s=trio.current_time(),
            limit_s=self._settings.unsynced_removal_s,
        )

    async def _check(self) -> None:
        self._health, due = self._after_check()
        if due:
            log.error("the daemon has been behind for too long: apps are removed")
            await self._removal.remove_all(
                REASON,
                pause_s=self._settings.unsynced_removal_spacing_s,
                still_due=lambda: not self._facts.synced,
            )
