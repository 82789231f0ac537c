"""What LinuxDisk sees of its volumes: files, mounts, what is mounted after a reboot.

Facts: docs/spec/lifecycle.md §12, §19. A data disk may be shared with another node of this machine, which
names its files in the same way: what is mounted in a folder of others, now or after a reboot, is theirs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import trio

from trionode.containers.disk import VolumeState
from trionode.containers.machine import imagefiles, mounts
from trionode.containers.machine.bootmounts import BootMount
from trionode.containers.machine.imagefiles import ImageFile, ImageFiles
from trionode.plans.volumes import is_volume_name, volume_of_file


class DiskView:
    """Looks, and changes nothing. `settle_s`: how long the last commands of a killed node are waited for."""

    def __init__(self, apps_dir: str, files: ImageFiles, settle_s: float) -> None:
        self._apps_dir = apps_dir
        self._files = files
        self._settle_s = settle_s

    def point(self, name: str) -> str:
        """Where a volume is mounted."""
        return f"{self._apps_dir}/{name}"

    def files(self, boots: Sequence[BootMount]) -> tuple[ImageFile, ...]:
        """Our image files on the data disks, and those that are mounted here after a reboot."""
        found = self._files.all(boot.volume_file for boot in boots if self._is_ours(boot))
        lines = {os.path.realpath(boot.volume_file) for boot in boots if not self._is_ours(boot)}
        points = {mount.source: mount.point for mount in mounts.mounted()}
        loops = mounts.loops()
        theirs = {file for device, file in loops.items() if not self._is_free(points.get(device), file)}
        return tuple(file for file in found if file.path not in lines | theirs)

    async def settled_files(self, boots: Sequence[BootMount], name: str = "") -> tuple[ImageFile, ...]:
        """Those files, when nothing goes on with unfinished ones (of one volume) any more.

        Who holds one longer than the last command of a killed node can take is a node that lives.
        """
        found = self.files(boots)
        held = [file.path for file in found if not file.is_complete and name in ("", file.name)]
        with trio.move_on_after(self._settle_s):
            for path in held:
                await trio.to_thread.run_sync(imagefiles.wait_until_let_go, path, abandon_on_cancel=True)
        return self.files(boots) if held else found

    def mounted_files(self, name: str) -> list[str]:
        """Image files behind what is mounted at its place."""
        loops = mounts.loops()
        found = (loops.get(mount.source) for mount in mounts.below(self.point(name), mounts.mounted()))
        return [file for file in found if file is not None and volume_of_file(file) == name]

    def states(self, boots: Sequence[BootMount]) -> tuple[VolumeState, ...]:
        """Every volume there is a file of, a line or unit, or a folder with something in it."""
        complete = {file.name: file.path for file in self.files(boots) if file.is_complete}
        lasting = {boot.name: boot.is_right for boot in boots if self._is_ours(boot)}
        names = dict.fromkeys([*complete, *lasting, *self._folders()])
        table = mounts.mounted()
        return tuple(self._state(n, complete.get(n, ""), table, lasting.get(n, False)) for n in names)

    def _folders(self) -> list[str]:
        """A mounted volume is never empty; an empty folder is nothing."""
        paths = [path for path in sorted(Path(self._apps_dir).glob("*")) if is_volume_name(path.name)]
        return [path.name for path in paths if path.is_dir() and any(path.iterdir())]

    def _state(
        self, name: str, file: str, table: Sequence[mounts.Mounted], survives_reboot: bool
    ) -> VolumeState:
        mount = mounts.at(self.point(name), table)
        if mount is None:
            return VolumeState(name, file, is_mounted=False, survives_reboot=survives_reboot)
        mounted_ms = mounts.last_mounted_ms(file or mount.source)
        return VolumeState(name, file, True, survives_reboot, mounted_ms)

    def _is_free(self, point: str | None, file: str) -> bool:
        """Whether nobody else has it mounted. A mount over one of ours makes it nobody else's."""
        name = volume_of_file(file)
        ours = None if name is None else self.point(name)
        return point is None or ours is None or point == ours or point.startswith(f"{ours}/")

    def _is_ours(self, boot: BootMount) -> bool:
        """Another node of this machine may have a volume of that name in its own folder."""
        return os.path.realpath(boot.mount_point) == self.point(boot.name)
