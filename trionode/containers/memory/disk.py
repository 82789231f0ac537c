"""MemoryDisk and MemoryFirewall: the machine under the containers as values, for the simulator and tests.

They outlive the process of their node, as disks do (docs/spec/lifecycle.md §12, §18). Faults are set as
attributes: a step that fails or never ends, a full disk, a mount that is lost, a wiped crontab.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import trio

from trionode.containers.disk import (
    DiskError,
    DiskSpace,
    FirewallError,
    Usage,
    VolumeRequest,
    VolumeState,
)
from trionode.plans.volumes import (
    GB,
    USUAL_RULES,
    DataVolume,
    SpaceRules,
    entries,
    image_file,
    is_volume_name,
    space_problem,
)
from trionode.runtime.clock import VirtualClock, WallClock


class MemoryVolume(msgspec.Struct, kw_only=True):
    """One volume. `entries`: names of folders and files in it; `is_open`: everybody may write in it."""

    name: str
    size_bytes: int
    is_complete: bool = False
    is_mounted: bool = False
    mounted_ms: int | None = None
    survives_reboot: bool = False
    entries: tuple[str, ...] = ()
    is_open: bool = False
    used_bytes: int = 0


class MemoryDisk:
    """`Disk` in memory."""

    def __init__(
        self,
        apps_dir: str = "/srv/apps",
        *,
        free_gb: int = 1000,
        used_gb: int = 80,
        rules: SpaceRules = USUAL_RULES,
        clock: WallClock | None = None,
    ) -> None:
        self.rules = rules
        self.free_gb = free_gb
        """Free GB before any volume was made; 0 is a full disk."""
        self.used_gb = used_gb
        self.failing: dict[str, int | None] = {}
        """Steps (disk.CREATE_STEPS, REMOVE_STEPS, "burst", ...) that fail, as `step` or `step name` of one
        volume, and how often; None: always."""
        self.hanging: set[str] = set()
        """Steps, named as above, that never end until cancelled."""
        self.delays_s: dict[str, float] = {}
        """How long steps take, by step."""
        self.is_killed = False
        """True: whoever is cancelled in the middle leaves what it made, as a killed process does."""
        self.steps: list[tuple[str, str]] = []
        """(step, name) of everything that was begun."""
        self.held: dict[str, MemoryVolume] = {}
        """Volumes by name, unfinished ones too."""
        self.bursts: dict[str, int] = {}
        self._apps_dir = apps_dir.rstrip("/")
        self._clock: WallClock = clock if clock is not None else VirtualClock()
        self._making: set[str] = set()

    # --- what tests and the simulator do ------------------------------------------------------

    def reboot(self, *, mounts_come_back: bool = True) -> None:
        """The machine went down and up: everything is unmounted; what survives reboots is mounted again."""
        for volume in self.held.values():
            volume.is_mounted = mounts_come_back and volume.survives_reboot and volume.is_complete
            volume.mounted_ms = self._clock.now_ms() if volume.is_mounted else None

    def lose_mount(self, name: str) -> None:
        """Somebody unmounted it."""
        self.held[name].is_mounted = False
        self.held[name].mounted_ms = None

    def wipe_lines(self) -> None:
        """Somebody emptied the crontab: nothing is mounted after the next reboot."""
        for volume in self.held.values():
            volume.survives_reboot = False

    def remount(self, name: str) -> None:
        """Somebody mounted it anew, behind the back of running containers."""
        self._mounted(self.held[name])

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is left on it."""
        return not self.held

    # --- the port -----------------------------------------------------------------------------

    @property
    def apps_dir(self) -> str:
        """See `Disk.apps_dir`."""
        return self._apps_dir

    async def space(self) -> DiskSpace:
        """See `Disk.space`."""
        await self._step("space", "")
        data = self._data_volume()
        return DiskSpace(data.free_gb, data.used_gb)

    async def create_volume(self, request: VolumeRequest) -> None:
        """See `Disk.create_volume`."""
        name = _checked(request.name)
        left = self.held.get(name)
        if left is not None and (left.is_complete or name in self._making):
            raise DiskError(
                f"there is a volume {name} already", step="room", remedy="remove it before making it anew"
            )
        self.held.pop(name, None)
        with self._making_of(name):
            await self._create(request)

    async def remove_volume(self, name: str) -> None:
        """See `Disk.remove_volume`."""
        _checked(name)
        problem: DiskError | None = None
        for step in ("unmount", "forget", "delete"):
            try:
                await self._step(step, name)
            except DiskError as error:
                problem = problem or error
                continue
            self._undone(step, name)
        if problem is not None:
            raise problem

    async def volumes(self) -> tuple[VolumeState, ...]:
        """See `Disk.volumes`."""
        await self._step("volumes", "")
        for name in [held.name for held in self.held.values() if not held.is_complete]:
            if name not in self._making:
                del self.held[name]
        return tuple(
            VolumeState(
                held.name,
                image_file(held.name, "/", self._apps_dir) if held.size_bytes else "",
                held.is_mounted,
                held.survives_reboot,
                held.mounted_ms,
            )
            for held in self.held.values()
            if held.is_complete
        )

    async def is_mounted(self, name: str) -> bool:
        """See `Disk.is_mounted`."""
        await self._step("is_mounted", name)
        held = self.held.get(name)
        return held is not None and held.is_mounted

    async def mount(self, name: str) -> None:
        """See `Disk.mount`."""
        held = self.held.get(_checked(name))
        if held is None or not held.is_complete:
            raise DiskError(f"there is no volume {name}", step="mount")
        await self._step("mount", name)
        if not held.is_mounted:
            self._mounted(held)
        await self._step("verify", name)
        await self._step("remember", name)
        held.survives_reboot = True

    async def forget(self, name: str) -> None:
        """See `Disk.forget`."""
        await self._step("forget", _checked(name))
        self._undone("forget", name)

    async def open_folder(self, name: str) -> None:
        """See `Disk.open_folder`."""
        await self._step("open", _checked(name))
        held = self.held.get(name)
        if held is None:
            raise DiskError(f"there is no volume {name}", step="open")
        held.is_open = True

    async def usage(self, name: str) -> Usage | None:
        """See `Disk.usage`."""
        await self._step("usage", name)
        held = self.held.get(name)
        return Usage(held.used_bytes, held.size_bytes) if held is not None and held.is_mounted else None

    async def burst(self, container_id: str, burst_us: int) -> None:
        """See `Disk.burst`."""
        await self._step("burst", container_id)
        self.bursts[container_id] = burst_us

    # --- inside -------------------------------------------------------------------------------

    async def _create(self, request: VolumeRequest) -> None:
        name = request.name
        await self._step("room", name)
        self._must_have_room(request.size_gb)
        await self._step("prepare", name)
        await self._step("allocate", name)
        held = self.held[name] = MemoryVolume(name=name, size_bytes=round(request.size_gb * GB))
        for step in ("format", "mount", "verify", "fill", "remember", "finish"):
            await self._step(step, name)
            if step == "mount":
                self._mounted(held)
            elif step == "fill":
                held.entries = tuple(entry.name for entry in entries(request.mounts, syncs=request.syncs))
                held.is_open = True
            elif step == "remember":
                held.survives_reboot = True
        held.is_complete = True

    @contextmanager
    def _making_of(self, name: str) -> Iterator[None]:
        """Nothing of it is left unless it is complete at the end."""
        self._making.add(name)
        try:
            yield
        finally:
            self._making.discard(name)
            held = self.held.get(name)
            if held is not None and not held.is_complete and not self.is_killed:
                del self.held[name]

    def _must_have_room(self, size_gb: float) -> None:
        problem = space_problem(size_gb, [self._data_volume()], self.rules)
        if problem is not None:
            raise DiskError(problem, step="room", remedy="remove apps or add a disk")

    def _data_volume(self) -> DataVolume:
        taken = sum(held.size_bytes for held in self.held.values())
        free = max(self.free_gb * GB - taken, 0)
        return DataVolume("/dev/memory", "/", free, self.used_gb * GB + taken)

    def _mounted(self, held: MemoryVolume) -> None:
        held.is_mounted = True
        held.mounted_ms = self._clock.now_ms()

    def _undone(self, step: str, name: str) -> None:
        held = self.held.get(name)
        if held is None:
            return
        if step == "unmount":
            held.is_mounted = False
            held.mounted_ms = None
        elif step == "forget":
            held.survives_reboot = False
        elif not held.is_mounted and not held.survives_reboot:
            del self.held[name]
        else:
            # the file is gone, what held it is not: it still shows up as a leftover
            held.size_bytes = 0

    async def _step(self, step: str, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self.steps.append((step, name))
        if self.delays_s.get(step):
            await trio.sleep(self.delays_s[step])
        if self.hanging & {step, f"{step} {name}"}:
            await trio.sleep_forever()
        for fault in (step, f"{step} {name}"):
            if _strikes(self.failing, fault):
                raise DiskError(
                    f"{step} of {name or 'the disk'} failed", step=step, remedy="look at the disk"
                )


class MemoryFirewall:
    """`Firewall` in memory."""

    def __init__(self) -> None:
        self.open: dict[int, str] = {}
        """Open ports and the app each was opened for."""
        self.guarded: tuple[str, ...] = ()
        """Bridges that were guarded last."""
        self.failing: dict[str, int | None] = {}
        """"allow", "forget", "guard", or "allow 31000": fails so often; None: always."""
        self.hanging: set[str] = set()
        """What never ends until cancelled, named as above."""
        self.steps: list[tuple[str, str]] = []

    async def allow(self, port: int, *, app: str) -> None:
        """See `Firewall.allow`."""
        await self._step("allow", str(port))
        self.open[port] = app

    async def forget(self, port: int, *, app: str) -> None:
        """See `Firewall.forget`."""
        await self._step("forget", str(port))
        self.open.pop(port, None)

    async def missing(self, ports: Sequence[int]) -> Sequence[int]:
        """See `Firewall.missing`."""
        await self._step("missing", "")
        return [port for port in ports if port not in self.open]

    async def guard_private(self, interfaces: Sequence[str]) -> None:
        """See `Firewall.guard_private`."""
        await self._step("guard", "")
        self.guarded = tuple(interfaces)

    async def unguard(self) -> None:
        """See `Firewall.unguard`."""
        await self._step("unguard", "")
        self.guarded = ()

    async def _step(self, step: str, what: str) -> None:
        await trio.lowlevel.checkpoint()
        self.steps.append((step, what))
        names = (step, f"{step} {what}")
        if self.hanging & set(names):
            await trio.sleep_forever()
        if any(_strikes(self.failing, name) for name in names):
            raise FirewallError(f"{step} {what} failed".replace("  ", " "), remedy="look at the firewall")


def _strikes(failing: dict[str, int | None], fault: str) -> bool:
    """Whether the fault happens now; one that was set a number of times is used up."""
    left = failing.get(fault, 0)
    if left is None:
        return True
    if left <= 0:
        return False
    failing[fault] = left - 1
    return True


def _checked(name: str) -> str:
    if not is_volume_name(name):
        raise DiskError(f"{name!r} is no name of a container", remedy="names begin with flux or zel")
    return name
