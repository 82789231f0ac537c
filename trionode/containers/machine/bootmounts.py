"""Having volumes mounted after a reboot: systemd units where systemd runs, else lines of the crontab.

Facts: docs/spec/lifecycle.md §12, §19. Why units come first is told in docs/containers-disk.md. Crontab lines
of a node that was here before are read in both cases; where units are used, each makes way for its unit, as
the second of the two would fail at every boot.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from trionode.containers.machine.commands import CommandError, ProgramMissing, Run, must
from trionode.plans.crontab import mount_job, read_jobs
from trionode.plans.mountunits import WANTED_BY, MountUnit, read_unit

SYSTEMD_RUNS = "/run/systemd/system"
UNITS = "/etc/systemd/system"
CRONTAB_LOCK = "/run/lock/trionode-crontab"
NO_CRONTAB = "no crontab for"


class BootMount(msgspec.Struct, frozen=True):
    """A volume that is mounted after a reboot. `is_right`: in the form we write, not an old one."""

    name: str
    volume_file: str
    mount_point: str
    is_right: bool = True


class BootMounts(Protocol):
    """What is mounted after a reboot. Methods raise CommandError or OSError."""

    async def all(self) -> tuple[BootMount, ...]: ...

    async def remember(self, name: str, volume_file: str, mount_point: str) -> None:
        """In place of whatever was to be mounted there."""
        ...

    async def forget(self, mount_point: str) -> None:
        """Nothing is mounted there any more. What is not there is passed over."""
        ...


def boot_mounts(run: Run, systemd_runs: str = SYSTEMD_RUNS) -> BootMounts:
    """The form that works on this machine."""
    crontab = CrontabMounts(run)
    return UnitMounts(run, crontab) if os.path.isdir(systemd_runs) else crontab


class CrontabMounts:
    """`BootMounts` in the crontab of the user the node runs as; other lines stay as they are."""

    def __init__(self, run: Run, *, lock_file: str = CRONTAB_LOCK, sudo: bool | None = None) -> None:
        self._run = run
        self._lock_file = lock_file
        self._sudo = shutil.which("sudo") is not None if sudo is None else sudo

    async def all(self) -> tuple[BootMount, ...]:
        """See `BootMounts.all`."""
        return tuple(
            BootMount(job.container, job.volume_file, job.mount_point, job.waits)
            for job in read_jobs(await self._lines())
            if job.container is not None and job.volume_file is not None and job.mount_point is not None
        )

    async def remember(self, name: str, volume_file: str, mount_point: str) -> None:
        """See `BootMounts.remember`. An old line is replaced by one that waits for its file."""
        line = mount_job(name, volume_file, mount_point, sudo=self._sudo).line()
        async with self._alone() as lock:
            lines = await self._lines()
            kept = [other for other in lines if not _is_at(other, mount_point)]
            if line not in lines or len(kept) + 1 != len(lines):
                await self._write([*kept, line], lock)

    async def forget(self, mount_point: str) -> None:
        """See `BootMounts.forget`."""
        async with self._alone() as lock:
            lines = await self._lines()
            kept = [other for other in lines if not _is_at(other, mount_point)]
            if kept != lines:
                await self._write(kept, lock)

    async def _lines(self) -> list[str]:
        try:
            done = await self._run("crontab", "-l")
        except ProgramMissing:
            # without cron there is nothing to read or forget; what is to be remembered fails at the writing
            return []
        if done.status == 0:
            return done.output.splitlines()
        if done.complaint.startswith(NO_CRONTAB):
            return []
        # an unreadable crontab must not be taken for an empty one: writing would wipe it
        raise CommandError(f"crontab -l failed with {done.status}: {done.complaint.strip()}")

    async def _write(self, lines: Sequence[str], lock: int) -> None:
        if lines:
            text = "".join(f"{line}\n" for line in lines)
            await must(self._run, "crontab", "-", given=text, holding=[lock])
        else:
            await must(self._run, "crontab", "-r", holding=[lock])

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[int]:
        """A crontab is read and written as a whole: several nodes of one machine take turns."""
        handle = await trio.to_thread.run_sync(_locked, self._lock_file)
        try:
            yield handle
        finally:
            os.close(handle)


class UnitMounts:
    """`BootMounts` as systemd units, and lines of a crontab that are taken over."""

    def __init__(self, run: Run, crontab: CrontabMounts, units: str = UNITS) -> None:
        self._run = run
        self._crontab = crontab
        self._units = Path(units)

    async def all(self) -> tuple[BootMount, ...]:
        """See `BootMounts.all`."""
        found = {
            unit.mount_point: BootMount(unit.container, unit.volume_file, unit.mount_point)
            for unit in self._read()
        }
        for old in await self._crontab.all():
            found.setdefault(old.mount_point, msgspec.structs.replace(old, is_right=False))
        return tuple(found.values())

    async def remember(self, name: str, volume_file: str, mount_point: str) -> None:
        """See `BootMounts.remember`."""
        unit = MountUnit(name, volume_file, mount_point)
        path, text = self._units / unit.file_name, unit.text()
        wish = self._wish(unit)
        if not (path.is_file() and path.read_text(encoding="utf-8") == text and wish.is_symlink()):
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
            wish.parent.mkdir(exist_ok=True)
            if not wish.is_symlink():
                wish.symlink_to(path)
            await must(self._run, "systemctl", "daemon-reload")
        await self._crontab.forget(mount_point)

    async def forget(self, mount_point: str) -> None:
        """See `BootMounts.forget`."""
        units = [unit for unit in self._read() if _is_same(unit.mount_point, mount_point)]
        for unit in units:
            self._wish(unit).unlink(missing_ok=True)
            (self._units / unit.file_name).unlink(missing_ok=True)
        if units:
            await must(self._run, "systemctl", "daemon-reload")
        await self._crontab.forget(mount_point)

    def _wish(self, unit: MountUnit) -> Path:
        return self._units / f"{WANTED_BY}.wants" / unit.file_name

    def _read(self) -> list[MountUnit]:
        read = (read_unit(path.read_text(encoding="utf-8")) for path in sorted(self._units.glob("*.mount")))
        return [unit for unit in read if unit is not None]


def _is_at(line: str, mount_point: str) -> bool:
    points = (job.mount_point for job in read_jobs([line]))
    return any(point is not None and _is_same(point, mount_point) for point in points)


def _is_same(left: str, right: str) -> bool:
    """Lines of another node may name a place through a link."""
    return os.path.realpath(left) == os.path.realpath(right)


def _locked(path: str) -> int:
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        os.close(handle)
        raise
    return handle
