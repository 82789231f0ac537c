"""The machine under the containers as a port: volumes on files, mounts, firewall.

Facts: docs/spec/lifecycle.md §12, §13, §18. Implementations: `containers.machine.linuxdisk.LinuxDisk`,
`containers.memory.disk.MemoryDisk`. A volume is a file with an ext4 file system, loop-mounted on
`APPS_DIR/<container name>`, and mounted again after a reboot.
`name` is always the container name (`fluxweb_shop`). Methods raise DiskError or FirewallError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from trionode.errors import HostError
from trionode.plans.containerdata import Mount

CREATE_STEPS = ("room", "prepare", "allocate", "format", "mount", "verify", "fill", "remember", "finish")
"""What making a volume consists of, in order: enough space, folders on this machine, the image file, its file
system, the loop mount, a look whether it is there, folders and files in it, mounting after a reboot, and the
name that says it is complete."""
REMOVE_STEPS = ("unmount", "forget", "delete")
MOUNT_STEPS = ("mount", "verify", "remember")


class DiskError(HostError):
    """A volume could not be made, mounted or removed. `step`: where, one of the steps above or ""."""

    code = "disk"

    def __init__(self, message: str, *, remedy: str = "", step: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.step = step


class DiskFull(DiskError):
    """There is no space for what a step writes, not even what was allowed for."""

    code = "disk_full"


class FirewallError(HostError):
    """A port could not be opened or closed."""

    code = "firewall"


class VolumeRequest(msgspec.Struct, frozen=True):
    """A volume to be made. `mounts`: what it has to hold (own ones only); `syncs`: it has file sync flags."""

    name: str
    size_gb: float
    mounts: tuple[Mount, ...] = ()
    syncs: bool = False


class VolumeState(msgspec.Struct, frozen=True):
    """A volume there is. `file`: its image file, "" when only the mount or the folder was found."""

    name: str
    file: str = ""
    is_mounted: bool = False
    survives_reboot: bool = False
    mounted_ms: int | None = None


class DiskSpace(msgspec.Struct, frozen=True):
    """Sums over the machine's data volumes, whole GB."""

    free_gb: int
    used_gb: int


class Usage(msgspec.Struct, frozen=True):
    """Of one volume, in bytes."""

    used_bytes: int
    total_bytes: int


class Disk(Protocol):
    """The disk of this machine."""

    @property
    def apps_dir(self) -> str:
        """Where volumes are mounted, without a trailing slash."""
        ...

    async def space(self) -> DiskSpace: ...

    async def create_volume(self, request: VolumeRequest) -> None:
        """Allocate, format, mount, make folders and files (mode 777), and have it mounted after a reboot.

        All or nothing: a failure or a cancellation leaves nothing behind, a process killed meanwhile
        leaves what the next one clears away. DiskError names the step. A volume of that name that exists
        is never formatted again: remove it first.
        """
        ...

    async def remove_volume(self, name: str) -> None:
        """Unmount, forget, delete file and folder. What is not there is passed over; the rest is tried all
        the same and the first problem raised at the end."""
        ...

    async def volumes(self) -> tuple[VolumeState, ...]:
        """Every volume of ours, mounted or not, and what a node that was here before left of them."""
        ...

    async def is_mounted(self, name: str) -> bool:
        """Whether the volume is a live mount at its place."""
        ...

    async def mount(self, name: str) -> None:
        """Mount an existing volume (again) and see to it that it is mounted after a reboot."""
        ...

    async def forget(self, name: str) -> None:
        """It is not mounted after a reboot any more; mount and data stay as they are."""
        ...

    async def open_folder(self, name: str) -> None:
        """Let every user write below it (chmod -R 777)."""
        ...

    async def usage(self, name: str) -> Usage | None:
        """How full the volume is; None when it is not mounted."""
        ...

    async def burst(self, container_id: str, burst_us: int) -> None:
        """Allow a container to use spare CPU (cgroup `cpu.max.burst`). DiskError where it cannot be."""
        ...


class Firewall(Protocol):
    """The ports of this machine towards the internet. An inactive firewall is one that allows all."""

    async def allow(self, port: int, *, app: str) -> None:
        """Open a host port, tcp and udp, at the firewall and (if configured) at the UPnP router."""
        ...

    async def forget(self, port: int, *, app: str) -> None:
        """Close it again; one that is not open is passed over."""
        ...

    async def missing(self, ports: Sequence[int]) -> Sequence[int]:
        """Those of these ports that the firewall does not let in."""
        ...

    async def guard_private(self, interfaces: Sequence[str]) -> None:
        """Containers on these bridges must not reach private address ranges beyond their own network."""
        ...

    async def unguard(self) -> None:
        """Take those rules away, all of them."""
        ...
