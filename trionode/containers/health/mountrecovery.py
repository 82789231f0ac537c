"""MountRecovery: volumes are mounted before containers start on them (docs/spec/lifecycle.md §19).

At the start of the node every volume of an installed app is mounted that is not; containers that had been
started before that are restarted, one after the other, once the boot decision is carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from trionode.config.tree import BootSettings, HostingSettings, InstallerSettings
from trionode.containers.disk import Disk, DiskError, VolumeState
from trionode.containers.engine import Engine, EngineError
from trionode.containers.health.tampering import TamperingLog
from trionode.containers.hiding import start_container
from trionode.containers.operations import Operations
from trionode.lifecycle.local import RUNNING, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.plans.mountrecovery import (
    MountVolume,
    RestartContainer,
    RunningFacts,
    VolumeFacts,
    is_wiped,
    plan_forgetting,
    plan_mounts,
    plan_restarts,
)
from trionode.runtime.appturns import AppTurns
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

MOUNT_VANISHED = "mount_vanished"
LINES_WIPED = "crontab_wiped"

EVERY_APP = "__system__"
"""What concerns the node as a whole is noted under this name."""

log = get_logger("containers.mounts")


class InstalledRows(Protocol):
    """The local table (`containers.installedapps.InstalledApps`)."""

    def installed(self) -> tuple[InstalledApp, ...]: ...


class MountRecovery:
    """Service "mounts": ready when what can be mounted is mounted.

    `engine_ready` opens when the engine answers, `boot_settled` when the boot decision is carried out.
    `departing`: whether the machine goes down.
    """

    name = "mounts"

    def __init__(
        self,
        hosting: HostingSettings,
        boot: BootSettings,
        installer: InstallerSettings,
        *,
        disk: Disk,
        engine: Engine,
        installed: InstalledRows,
        operations: Operations,
        tampering: TamperingLog,
        engine_ready: Gate,
        boot_settled: Gate,
        counters: Counters,
        departing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._limit_s = hosting.engine_timeout_s
        self._spacing_s = boot.start_spacing_s
        self._grace_s = installer.stop_grace_s
        self._disk = disk
        self._engine = engine
        self._installed = installed
        self._operations = operations
        self._tampering = tampering
        self._engine_ready = engine_ready
        self._boot_settled = boot_settled
        self._counters = counters
        self._departing = departing
        self._turns = AppTurns("mounts", counters)
        self._mounting = trio.Lock()
        self._is_through = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Mount, then restart what began too early, and then only rest."""
        with trio.move_on_after(self._limit_s) as limit:
            await self._mount_all()
        if limit.cancelled_caught:
            self._counters.add("containers.mounts.slow")
            log.error("volumes are still not mounted, going on without", limit_s=self._limit_s)
        task_status.started()
        await self._boot_settled.wait()
        await self._engine_ready.wait()
        await self._restart_stale()
        self._is_through = True
        await trio.sleep_forever()

    async def ensure(self, container: str) -> None:
        """Mount the volumes of the app of this container, as far as they are not. Raises DiskError.

        All of them, because a component may bind folders of the others.
        """
        names = self._siblings(container)
        async with self._mounting:
            away = [name for name in names if not await self._disk.is_mounted(name)]
            if not away:
                return
            files = {volume.name for volume in await self._disk.volumes() if volume.file}
            for name in away:
                if name in files:
                    await self._mount(name)

    def _siblings(self, container: str) -> tuple[str, ...]:
        for app in self._installed.installed():
            names = tuple(container_name(part.identifier) for part in app.components)
            if container in names:
                return names
        return ()

    async def _mount(self, name: str) -> None:
        await self._disk.mount(name)
        self._counters.add("containers.mounts.mounted")
        log.info("volume mounted", volume=name)

    async def _mount_all(self) -> None:
        try:
            volumes = _facts(await self._disk.volumes())
        except DiskError as error:
            self._counters.add("containers.mounts.failed")
            log.error("the volumes cannot be listed", problem=error.one_line())
            return
        installed = self._installed.installed()
        if is_wiped(installed, volumes):
            self._tampering.note(EVERY_APP, LINES_WIPED, "nothing would mount the volumes at the next boot")
        for step in plan_mounts(installed, volumes):
            with self._turns.of(step.app):
                await self._mount_one(step)
        for leftover in plan_forgetting(installed, volumes):
            try:
                await self._disk.forget(leftover.volume)
            except DiskError as error:
                log.error("volume still mounted at boot", volume=leftover.volume, problem=error.one_line())
            else:
                log.info("volume no longer mounted at boot", volume=leftover.volume, why=leftover.reason)

    async def _mount_one(self, step: MountVolume) -> None:
        try:
            async with self._mounting:
                await self._mount(step.volume)
        except DiskError as error:
            self._counters.add("containers.mounts.failed")
            if step.vanished:
                self._tampering.note(step.app, MOUNT_VANISHED, f"{step.volume}: {error.message}")
            else:
                log.error("volume will not be mounted at boot", volume=step.volume, problem=error.message)

    async def _restart_stale(self) -> None:
        try:
            steps = await self.plan()
        except (EngineError, DiskError) as error:
            self._counters.add("containers.mounts.failed")
            log.error("running containers not compared with their mounts", problem=error.one_line())
            return
        for step in steps:
            if self._departing():
                return
            if self._is_let_alone(step.app):
                continue
            with self._turns.of(step.app):
                await self._restart(step)
            await trio.sleep(self._spacing_s)

    async def plan(self) -> tuple[RestartContainer, ...]:
        """What is restarted when the boot decision is carried out; nothing afterwards. Raises as `stale`."""
        if self._is_through:
            return ()
        return tuple(step for step in await self.stale() if not self._is_let_alone(step.app))

    def _is_let_alone(self, app: str) -> bool:
        return app in self._operations.names() | self._operations.held

    async def stale(self) -> tuple[RestartContainer, ...]:
        """The running containers that bind a former mount. Raises EngineError, DiskError."""
        volumes = _facts(await self._disk.volumes())
        if not volumes:
            return ()
        running = []
        for row in await self._engine.containers():
            if row.state == RUNNING and row.name in volumes:
                details = await self._engine.inspect(row.name)
                running.append(RunningFacts(row.name, details.started_ms, details.mounts))
        return plan_restarts(self._installed.installed(), running, volumes, self._disk.apps_dir)

    async def _restart(self, step: RestartContainer) -> None:
        name = container_name(step.identifier)
        try:
            await self._engine.stop(name, self._grace_s)
            await start_container(self._engine, name)
        except EngineError as error:
            self._counters.add("containers.mounts.restart_failed")
            log.error("container not restarted", container=name, problem=error.one_line())
        else:
            self._counters.add("containers.mounts.restarted")
            log.warning("container restarted", container=name, why=step.reason)


def _facts(volumes: tuple[VolumeState, ...]) -> dict[str, VolumeFacts]:
    return {
        volume.name: VolumeFacts(
            volume.is_mounted, bool(volume.file), volume.mounted_ms, volume.survives_reboot
        )
        for volume in volumes
    }
