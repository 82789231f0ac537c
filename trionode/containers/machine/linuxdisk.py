"""LinuxDisk: volumes on image files of a Linux machine (docs/spec/lifecycle.md §12 "Volume", §15, §19).

A volume is a file with ext4, loop-mounted on `APPS_DIR/<container name>`. It is made under another name,
which it loses at the very end: what a failure, a cancellation or a kill leaves unfinished is cleared away.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from trionode.containers.disk import DiskError, DiskFull, DiskSpace, Usage, VolumeRequest, VolumeState
from trionode.containers.machine import imagefiles, mounts
from trionode.containers.machine.bootmounts import BootMounts, boot_mounts
from trionode.containers.machine.commands import CommandError, Run, SystemRun, must
from trionode.containers.machine.cpuburst import CGROUPS, is_container_id, lend_cpu
from trionode.containers.machine.diskview import DiskView
from trionode.containers.machine.imagefiles import ImageFiles
from trionode.plans.volumes import (
    GB,
    UNFINISHED,
    USUAL_RULES,
    SpaceRules,
    entries,
    image_file,
    is_plain_path,
    is_volume_name,
    place_for,
    space_problem,
)
from trionode.runtime.logs import get_logger

log = get_logger("containers.disk")

OnStep = Callable[[str, str], Awaitable[None]]
OPEN = 0o777
STACKED = 8
"""Mounts lying over one another at one place that are taken away; more is somebody at work against us."""
LETS_GO_WITHIN_S = 1.0
"""A loop device that cannot be detached, because the kernel is at it, is gone after this."""
_REMEDIES = {
    "room": "remove apps or add a disk",
    "allocate": "look at the free space of the data disk",
    "mount": "see whether loop devices are to be had (`losetup -f`) and what `dmesg` says",
    "unmount": "see who uses it with `fuser -vm`",
}


async def _nobody(step: str, name: str) -> None:
    """Nobody hears of the steps."""


class LinuxDisk:
    """`Disk` of this machine. Needs root.

    `data_dirs`: mount points that hold image files, empty: every disk of the machine. `on_step` is told of
    each step before it begins.
    """

    def __init__(
        self,
        apps_dir: str,
        *,
        rules: SpaceRules = USUAL_RULES,
        data_dirs: Sequence[str] = (),
        run: Run | None = None,
        boots: BootMounts | None = None,
        on_step: OnStep = _nobody,
        cleanup_s: float = 60.0,
        settle_s: float = 5.0,
        cgroups: str = CGROUPS,
    ) -> None:
        # the kernel tells of mounts by their real paths
        self._apps_dir = os.path.realpath(apps_dir)
        self._rules = rules
        self._files = ImageFiles(self._apps_dir, data_dirs)
        self._view = DiskView(self._apps_dir, self._files, settle_s)
        self._run: Run = run if run is not None else SystemRun()
        self._boots = boots if boots is not None else boot_mounts(self._run)
        self._on_step = on_step
        self._cleanup_s = cleanup_s
        self._cgroups = cgroups
        self._lock = trio.Lock()

    @property
    def apps_dir(self) -> str:
        """See `Disk.apps_dir`."""
        return self._apps_dir

    async def space(self) -> DiskSpace:
        """See `Disk.space`."""
        async with self._step("space"):
            volumes = await trio.to_thread.run_sync(self._files.data_volumes)
        return DiskSpace(sum(v.free_gb for v in volumes), sum(v.used_gb for v in volumes))

    async def create_volume(self, request: VolumeRequest) -> None:
        """See `Disk.create_volume`."""
        name = _checked(request.name)
        async with self._lock:
            async with self._step("room", name):
                _must_be_root()
                complete = await self._place(request)
            file = f"{complete}{UNFINISHED}"
            handle: int | None = None
            is_complete = False
            try:
                async with self._step("prepare", name):
                    handle = await trio.to_thread.run_sync(self._claim, file)
                    # Behind the file: a folder alone would tell nobody that a killed node left it.
                    await trio.to_thread.run_sync(partial(os.makedirs, self._point(name), exist_ok=True))
                await self._make(request, file, complete, handle)
                is_complete = True
            finally:
                if not is_complete:
                    # a file that could not be claimed belongs to somebody else
                    await self._undo(name, None if handle is None else file)
                if handle is not None:
                    os.close(handle)

    async def remove_volume(self, name: str) -> None:
        """See `Disk.remove_volume`."""
        _checked(name)
        _must_be_root()
        async with self._lock:
            problems = await self._take_away(name)
        if problems:
            raise problems[0]

    async def volumes(self) -> tuple[VolumeState, ...]:
        """See `Disk.volumes`. What a killed node left unfinished is cleared away first."""
        async with self._lock, self._step("volumes"):
            boots = await self._boots.all()
            left = [
                file
                for file in await self._view.settled_files(boots)
                if not file.is_complete and not imagefiles.is_claimed(file.path)
            ]
            for file in left:
                log.warning("a volume was not finished and is cleared away", volume=file.name)
                await self._undo(file.name, file.path)
            if left:
                boots = await self._boots.all()
            found = list(self._view.states(boots))
        return tuple(found)

    async def is_mounted(self, name: str) -> bool:
        """See `Disk.is_mounted`."""
        await trio.lowlevel.checkpoint()
        return mounts.at(self._point(name), mounts.mounted()) is not None

    async def mount(self, name: str) -> None:
        """See `Disk.mount`."""
        _checked(name)
        async with self._lock:
            async with self._step("mount", name):
                _must_be_root()
                file = await self._file_of(name)
                if not await self.is_mounted(name):
                    os.makedirs(self._point(name), exist_ok=True)
                    await must(self._run, "mount", "-o", "loop", "--", file, self._point(name))
            async with self._step("verify", name):
                self._must_be_mounted(name, file)
            async with self._step("remember", name):
                await self._boots.remember(name, file, self._point(name))

    async def forget(self, name: str) -> None:
        """See `Disk.forget`."""
        async with self._lock, self._step("forget", _checked(name)):
            await self._boots.forget(self._point(name))

    async def open_folder(self, name: str) -> None:
        """See `Disk.open_folder`."""
        async with self._step("open", _checked(name)):
            await must(self._run, "chmod", "-R", "777", "--", self._point(name))

    async def usage(self, name: str) -> Usage | None:
        """See `Disk.usage`."""
        if not await self.is_mounted(name):
            return None
        async with self._step("usage", name):
            sizes = await trio.to_thread.run_sync(os.statvfs, self._point(name))
        total = sizes.f_blocks * sizes.f_frsize
        return Usage(total - sizes.f_bfree * sizes.f_frsize, total)

    async def burst(self, container_id: str, burst_us: int) -> None:
        """See `Disk.burst`."""
        if not is_container_id(container_id):
            raise DiskError(f"{container_id!r} is no id of a container", step="burst")
        async with self._step("burst", container_id[:12]):
            lend_cpu(self._cgroups, container_id, burst_us)

    # --- making -------------------------------------------------------------------------------

    async def _make(self, request: VolumeRequest, file: str, complete: str, claim: int) -> None:
        name, point = request.name, self._point(request.name)
        async with self._step("allocate", name):
            size = str(round(request.size_gb * GB))
            await must(self._run, "fallocate", "-l", size, "--", file, holding=[claim])
        async with self._step("format", name):
            # mkfs would discard the blocks just allocated, and the room would be promised to others too
            words = ("mkfs.ext4", "-F", "-q", "-E", "nodiscard", "--", file)
            await must(self._run, *words, holding=[claim])
        async with self._step("mount", name):
            await must(self._run, "mount", "-o", "loop", "--", file, point, holding=[claim])
        async with self._step("verify", name):
            self._must_be_mounted(name, file)
        async with self._step("fill", name):
            wanted = entries(request.mounts, syncs=request.syncs)
            await trio.to_thread.run_sync(imagefiles.fill, point, wanted)
        async with self._step("remember", name):
            await self._boots.remember(name, complete, point)
        async with self._step("finish", name):
            await trio.to_thread.run_sync(imagefiles.finish, file)

    async def _place(self, request: VolumeRequest) -> str:
        """Where its image file goes. Raises DiskError when it is there already or there is no room."""
        name = request.name
        known = await self._view.settled_files(await self._boots.all(), name)
        files = [file for file in known if file.name == name]
        if any(file.is_complete or imagefiles.is_claimed(file.path) for file in files):
            raise DiskError(
                f"there is a volume {name} already", step="room", remedy="remove it before making it anew"
            )
        for file in files:
            await self._undo(name, file.path)
        table = mounts.mounted()
        if mounts.is_hidden(self._apps_dir, table):
            raise DiskError(
                f"nobody but this node would see what it mounts below {self._apps_dir}",
                step="room",
                remedy="start it without a file system view of its own (docs/containers-disk.md)",
            )
        if mounts.at(self._point(name), table) is not None:
            raise DiskError(f"something is mounted on {self._point(name)}", step="room", remedy="unmount it")
        data = await trio.to_thread.run_sync(self._files.data_volumes)
        place = place_for(request.size_gb, data, self._rules)
        if place is None:
            problem = space_problem(request.size_gb, data, self._rules) or "no disk may hold volumes"
            raise DiskError(problem, step="room", remedy=_REMEDIES["room"])
        return self._path_on(name, place.mount_point)

    def _path_on(self, name: str, mount_point: str) -> str:
        folder, file = os.path.split(image_file(name, mount_point, self._apps_dir))
        folder = os.path.realpath(folder)
        for path in (folder, self._apps_dir):
            if not is_plain_path(path):
                raise DiskError(
                    f"the folder {path!r} cannot be written into a line of the crontab",
                    step="room",
                    remedy="choose one of letters, digits and ._-",
                )
        return f"{folder}/{file}"

    def _claim(self, file: str) -> int:
        os.makedirs(os.path.dirname(file), exist_ok=True)
        complete = file.removesuffix(UNFINISHED)
        if os.path.lexists(complete):
            raise FileExistsError(f"{complete} belongs to another node of this machine")
        return imagefiles.claim(file)

    def _must_be_mounted(self, name: str, file: str) -> None:
        mount = mounts.at(self._point(name), mounts.mounted())
        if mount is None or mounts.loops().get(mount.source) != file:
            seen = "nothing" if mount is None else mount.source
            raise DiskError(f"{seen} is mounted on {self._point(name)} instead of {file}", step="verify")

    # --- taking away --------------------------------------------------------------------------

    async def _undo(self, name: str, file: str | None) -> None:
        """Clear away what is not complete, whatever made it stop, within bounds.

        What cannot be cleared away now keeps its unfinished name, by which `volumes` finds it again.
        """
        point = self._point(name)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._cleanup_s) as scope:
            for clear in (
                partial(self._unmount, name),
                partial(self._boots.forget, point),
                partial(self._delete, [] if file is None else [file]),
                partial(trio.to_thread.run_sync, imagefiles.remove_if_empty, point),
            ):
                try:
                    await clear()
                except (CommandError, DiskError, OSError) as error:
                    log.error("an unfinished volume is not cleared away", volume=name, problem=str(error))
        if scope.cancelled_caught:
            log.error("clearing an unfinished volume away took too long", volume=name)

    async def _take_away(self, name: str) -> list[DiskError]:
        """Every step is tried; what went wrong, in order."""
        problems: list[DiskError] = []
        files: list[str] = []
        try:
            async with self._step("unmount", name):
                # what is mounted tells of files that lie where nobody else knows of
                files += self._view.mounted_files(name)
                await self._view.settled_files((), name)
                await self._unmount(name)
        except DiskError as error:
            problems.append(error)
        try:
            async with self._step("forget", name):
                known = self._view.files(await self._boots.all())
                files += [file.path for file in known if file.name == name]
                await self._boots.forget(self._point(name))
        except DiskError as error:
            problems.append(error)
            files += [file.path for file in self._view.files(()) if file.name == name]
        try:
            async with self._step("delete", name):
                await self._delete(list(dict.fromkeys(files)))
                await self._delete_folder(name)
        except DiskError as error:
            problems.append(error)
        return problems

    async def _unmount(self, name: str) -> None:
        """Everything at its place, the topmost first.

        A mount somebody still uses is taken out of the tree at once and ends with its last user (lazy): the
        app must go now, and a file sync or a shell that stands in its folder must not keep it.
        """
        point = self._point(name)
        for _ in range(STACKED):
            there = mounts.below(point, mounts.mounted())
            if not there:
                return
            if (await self._run("umount", "--", there[0].point)).status != 0:
                await must(self._run, "umount", "--lazy", "--", there[0].point)
        raise DiskError(f"{point} is still mounted", step="unmount", remedy=_REMEDIES["unmount"])

    async def _delete(self, files: Iterable[str]) -> None:
        for file in files:
            for device in [device for device, backing in mounts.loops().items() if backing == file]:
                await self._detach(device, file)
            await trio.to_thread.run_sync(imagefiles.unlink, file)

    async def _detach(self, device: str, file: str) -> None:
        try:
            await must(self._run, "losetup", "--detach", device)
        except CommandError:
            # when its last user leaves the kernel lets go of it by itself, and may just be doing so
            with trio.move_on_after(LETS_GO_WITHIN_S):
                while mounts.loops().get(device) == file:  # noqa: ASYNC110 - the kernel tells nobody
                    await trio.sleep(0.02)
                return
            raise

    async def _delete_folder(self, name: str) -> None:
        point = self._point(name)
        if mounts.below(point, mounts.mounted()):
            raise DiskError(f"{point} is still mounted, so it is not deleted", step="delete")
        await must(self._run, "rm", "-rf", "--one-file-system", "--", point)

    def _point(self, name: str) -> str:
        return self._view.point(name)

    async def _file_of(self, name: str) -> str:
        files = self._view.files(await self._boots.all())
        complete = [file.path for file in files if file.name == name and file.is_complete]
        if not complete:
            raise DiskError(f"there is no volume {name}", step="mount", remedy="install its app anew")
        return complete[0]

    @asynccontextmanager
    async def _step(self, step: str, name: str = "") -> AsyncIterator[None]:
        """What goes wrong within becomes a DiskError that names the step."""
        try:
            await self._on_step(step, name)
            yield
        except (CommandError, OSError, ValueError) as error:  # ValueError: no text for a kernel
            whose = f" of {name}" if name else ""
            remedy = getattr(error, "remedy", "") or _REMEDIES.get(step, "see what the machine says")
            made = DiskFull if _is_full(error) else DiskError
            raise made(f"{step}{whose} failed: {error}", remedy=remedy, step=step) from error


def _is_full(error: Exception) -> bool:
    """By its number, or by what a command said."""
    is_number = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return is_number or (isinstance(error, CommandError) and "no space left on device" in str(error).lower())


def _checked(name: str) -> str:
    if not is_volume_name(name):
        raise DiskError(f"{name!r} is no name of a container", remedy="names begin with flux or zel")
    return name


def _must_be_root() -> None:
    if os.geteuid() != 0:
        raise DiskError("only root can mount volumes", remedy="run the node as root to host apps")
