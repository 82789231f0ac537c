"""What every disk behind the Disk port does the same (docs/spec/lifecycle.md §12 "Volume", §15).

MemoryDisk, and LinuxDisk on real loop mounts. Every step of making and removing a volume is made to fail, and
is cancelled, and its process killed; nothing may be left.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import diskmachine
import pytest
import trio
from diskmachine import NAME, REQUEST, SIZE_GB
from trio.testing import wait_all_tasks_blocked

from trionode.containers.disk import CREATE_STEPS, REMOVE_STEPS, Disk, DiskError, VolumeRequest, VolumeState
from trionode.containers.memory.disk import MemoryDisk
from trionode.plans.volumes import GB, SpaceRules

KILLS = [
    *((step, "looked") for step in CREATE_STEPS),
    *((step, how) for step in ("allocate", "verify", "finish") for how in ("made again", "removed")),
]
"""Where a node is killed, and what the next one does first."""
HELD = {".stfolder", ".stignore", "appdata", "media", "start.conf"}


class Faulty(Protocol):
    """Where faults are set."""

    failing: dict[str, int | None]
    hanging: set[str]
    steps: list[tuple[str, str]]


class Machine(Protocol):
    """A machine whose disk is tested."""

    disk: Disk
    faults: Faulty

    def left(self) -> list[str]: ...

    def holds(self, name: str) -> set[str]: ...

    def reboot(self, *, mounts_come_back: bool = True) -> None: ...

    def lose_mount(self, name: str) -> None: ...

    def wipe_lines(self) -> None: ...

    def fill_up(self) -> None:
        """The disk is full."""

    def new_process(self) -> None:
        """The node was started anew."""

    async def hangs(self) -> None:
        """Something stays at a step."""

    async def killed_at(self, step: str) -> None:
        """A node is killed while it makes the volume of REQUEST, at the beginning of a step."""


class InMemory:
    """MemoryDisk."""

    def __init__(self) -> None:
        self.memory = MemoryDisk(rules=SpaceRules(20, 80, whole=False))
        self.disk: Disk = self.memory
        self.faults: Faulty = self.memory
        self.reboot = self.memory.reboot
        self.lose_mount = self.memory.lose_mount
        self.wipe_lines = self.memory.wipe_lines

    def left(self) -> list[str]:
        return [repr(volume) for volume in self.memory.held.values()]

    def holds(self, name: str) -> set[str]:
        return set(self.memory.held[name].entries)

    def fill_up(self) -> None:
        self.memory.free_gb = 20

    def new_process(self) -> None:
        """It outlives processes."""

    async def hangs(self) -> None:
        await wait_all_tasks_blocked()

    async def killed_at(self, step: str) -> None:
        self.memory.is_killed = True
        await cancelled_at(self, step)
        self.memory.is_killed = False


class OnLinux:
    """LinuxDisk with a small data disk."""

    def __init__(self, folder: Path) -> None:
        self.machine = diskmachine.DiskMachine(folder)
        self.disk: Disk = self.machine.new_disk()
        self.faults: Faulty = self.machine.faults
        self.left = self.machine.left
        self.reboot = self.machine.reboot
        self.lose_mount = self.machine.lose_mount
        self.wipe_lines = self.machine.wipe_lines

    def holds(self, name: str) -> set[str]:
        found = self.machine.holds(name)
        assert set(found.values()) == {"0o777"}
        return set(found)

    def fill_up(self) -> None:
        self.disk = self.machine.new_disk(rules=SpaceRules(1, 0, whole=False))

    def new_process(self) -> None:
        self.disk = self.machine.new_disk()

    async def hangs(self) -> None:
        await self.machine.faults.hangs.wait()

    async def killed_at(self, step: str) -> None:
        with diskmachine.node(self.machine.folder, step) as child:
            assert child.stdout is not None
            said = await trio.to_thread.run_sync(child.stdout.readline)
            child.kill()
        assert said == b"there\n"
        self.new_process()


@pytest.fixture(params=["memory", pytest.param("linux", marks=pytest.mark.process)])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    if request.param == "memory":
        yield InMemory()
        return
    reason = diskmachine.why_not()
    if reason is not None:
        pytest.skip(reason)
    linux = OnLinux(tmp_path)
    try:
        linux.machine.set_up()
        yield linux
    finally:
        linux.machine.tear_down()
    assert linux.machine.loops_left() == []


async def cancelled_at(machine: Machine, step: str) -> None:
    """Cancel the making of a volume at the beginning of a step."""
    machine.faults.hanging.add(step)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.disk.create_volume, REQUEST)
        await machine.hangs()
        nursery.cancel_scope.cancel()
    machine.faults.hanging.clear()


async def state(machine: Machine, name: str = NAME) -> VolumeState | None:
    return next((found for found in await machine.disk.volumes() if found.name == name), None)


@pytest.mark.trio
async def test_a_new_volume_is_mounted_and_filled_and_is_gone_when_removed(
    machine: Machine,
) -> None:
    await machine.disk.create_volume(REQUEST)
    assert await machine.disk.is_mounted(NAME)
    assert machine.holds(NAME) == HELD
    found = await state(machine)
    assert found is not None
    assert found.file.endswith(f"/{NAME}FLUXFSVOL")
    assert (found.is_mounted, found.survives_reboot) == (True, True)
    assert found.mounted_ms is not None
    usage = await machine.disk.usage(NAME)
    assert usage is not None
    assert 0 <= usage.used_bytes < usage.total_bytes <= SIZE_GB * GB + 1
    await machine.disk.remove_volume(NAME)
    assert machine.left() == []
    assert await machine.disk.volumes() == ()
    assert await machine.disk.usage(NAME) is None
    assert not await machine.disk.is_mounted(NAME)


@pytest.mark.trio
async def test_without_flags_nothing_of_file_sync_is_in_it(machine: Machine) -> None:
    await machine.disk.create_volume(VolumeRequest("fluxshop", SIZE_GB))
    assert machine.holds("fluxshop") == {"appdata"}


@pytest.mark.trio
@pytest.mark.parametrize("step", CREATE_STEPS)
async def test_a_failure_at_any_step_leaves_nothing_and_names_the_step(machine: Machine, step: str) -> None:
    machine.faults.failing[step] = 1
    with pytest.raises(DiskError) as caught:
        await machine.disk.create_volume(REQUEST)
    assert caught.value.step == step
    assert caught.value.remedy
    assert machine.left() == []
    await machine.disk.create_volume(REQUEST)
    assert await machine.disk.is_mounted(NAME)


@pytest.mark.trio
@pytest.mark.parametrize("step", CREATE_STEPS)
async def test_a_cancellation_at_any_step_leaves_nothing(machine: Machine, step: str) -> None:
    await cancelled_at(machine, step)
    assert machine.left() == []
    await machine.disk.create_volume(REQUEST)
    assert await machine.disk.is_mounted(NAME)


@pytest.mark.trio
@pytest.mark.parametrize(("step", "how"), KILLS)
async def test_what_a_killed_node_left_is_cleared_away_by_the_next(
    machine: Machine, step: str, how: str
) -> None:
    await machine.disk.create_volume(VolumeRequest("fluxother", SIZE_GB))
    await machine.killed_at(step)
    if how == "made again":
        await machine.disk.create_volume(REQUEST)
    if how != "looked":
        await machine.disk.remove_volume(NAME)
    assert [found.name for found in await machine.disk.volumes()] == ["fluxother"]
    await machine.disk.remove_volume("fluxother")
    assert machine.left() == []


@pytest.mark.trio
@pytest.mark.parametrize("step", REMOVE_STEPS)
async def test_a_removal_goes_on_behind_a_failing_step(machine: Machine, step: str) -> None:
    await machine.disk.create_volume(REQUEST)
    machine.faults.failing[step] = 1
    with pytest.raises(DiskError) as caught:
        await machine.disk.remove_volume(NAME)
    assert caught.value.step == step
    begun = [begun for begun, name in machine.faults.steps if begun in REMOVE_STEPS and name == NAME]
    assert begun[-3:] == list(REMOVE_STEPS)
    await machine.disk.remove_volume(NAME)
    assert machine.left() == []


@pytest.mark.trio
async def test_the_first_of_several_problems_is_told(machine: Machine) -> None:
    await machine.disk.create_volume(REQUEST)
    machine.faults.failing.update(forget=1, delete=1)
    with pytest.raises(DiskError, match="forget"):
        await machine.disk.remove_volume(NAME)
    await machine.disk.remove_volume(NAME)
    assert machine.left() == []


@pytest.mark.trio
async def test_removing_what_is_not_there_is_no_problem(machine: Machine) -> None:
    await machine.disk.remove_volume(NAME)
    await machine.disk.create_volume(REQUEST)
    machine.lose_mount(NAME)
    machine.wipe_lines()
    await machine.disk.remove_volume(NAME)
    await machine.disk.remove_volume(NAME)
    assert machine.left() == []


@pytest.mark.trio
async def test_a_volume_that_exists_is_never_made_anew(machine: Machine) -> None:
    await machine.disk.create_volume(REQUEST)
    before = machine.left()
    with pytest.raises(DiskError, match="already"):
        await machine.disk.create_volume(REQUEST)
    assert machine.left() == before
    machine.lose_mount(NAME)
    with pytest.raises(DiskError, match="already"):
        await machine.disk.create_volume(REQUEST)
    await machine.disk.mount(NAME)
    assert machine.holds(NAME) == HELD


@pytest.mark.trio
async def test_volumes_are_mounted_again_after_a_reboot(machine: Machine) -> None:
    await machine.disk.create_volume(REQUEST)
    machine.reboot()
    machine.new_process()
    assert await machine.disk.is_mounted(NAME)
    assert machine.holds(NAME) == HELD


@pytest.mark.trio
async def test_what_was_not_mounted_can_be_and_is_from_then_on(machine: Machine) -> None:
    await machine.disk.create_volume(REQUEST)
    machine.reboot(mounts_come_back=False)
    machine.wipe_lines()
    found = await state(machine)
    assert found is not None
    assert (found.is_mounted, found.survives_reboot, found.mounted_ms) == (False, False, None)
    await machine.disk.mount(NAME)
    await machine.disk.mount(NAME)
    machine.reboot()
    found = await state(machine)
    assert found is not None
    assert (found.is_mounted, found.survives_reboot) == (True, True)
    assert machine.holds(NAME) == HELD


@pytest.mark.trio
async def test_what_is_forgotten_is_not_mounted_after_a_reboot_but_kept(machine: Machine) -> None:
    await machine.disk.create_volume(REQUEST)
    await machine.disk.forget(NAME)
    await machine.disk.forget(NAME)
    assert await machine.disk.is_mounted(NAME)
    machine.reboot()
    found = await state(machine)
    assert found is not None
    assert (found.is_mounted, found.survives_reboot) == (False, False)


@pytest.mark.trio
@pytest.mark.parametrize("step", ["mount", "verify", "remember"])
async def test_a_mount_that_fails_names_its_step_and_loses_nothing(machine: Machine, step: str) -> None:
    await machine.disk.create_volume(REQUEST)
    machine.lose_mount(NAME)
    machine.faults.failing[step] = 1
    with pytest.raises(DiskError) as caught:
        await machine.disk.mount(NAME)
    assert caught.value.step == step
    await machine.disk.mount(NAME)
    assert machine.holds(NAME) == HELD


@pytest.mark.trio
async def test_a_full_disk_takes_no_volume(machine: Machine) -> None:
    machine.fill_up()
    with pytest.raises(DiskError, match="GB") as caught:
        await machine.disk.create_volume(REQUEST)
    assert caught.value.step == "room"
    assert machine.left() == []


@pytest.mark.trio
@pytest.mark.parametrize(
    "name", ["", "shop", "../fluxshop", "flux/shop", "fluxa b", "fluxa;reboot", "flux..", "-flux", "fluxa\n"]
)
async def test_a_name_that_is_no_container_never_reaches_the_disk(machine: Machine, name: str) -> None:
    for refused in (
        machine.disk.create_volume(VolumeRequest(name, SIZE_GB)),
        machine.disk.remove_volume(name),
        machine.disk.mount(name),
        machine.disk.forget(name),
        machine.disk.open_folder(name),
    ):
        with pytest.raises(DiskError, match="name of a container"):
            await refused
    assert machine.left() == []


@pytest.mark.trio
async def test_mounting_what_does_not_exist_is_refused(machine: Machine) -> None:
    with pytest.raises(DiskError, match="no volume"):
        await machine.disk.mount(NAME)
    assert machine.left() == []


@pytest.mark.trio
async def test_several_volumes_at_once(machine: Machine) -> None:
    names = ["fluxa_shop", "fluxb_shop", "fluxc_shop"]
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(machine.disk.create_volume, VolumeRequest(name, SIZE_GB))
    assert sorted(found.name for found in await machine.disk.volumes()) == names
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(machine.disk.remove_volume, name)
    assert machine.left() == []


@pytest.mark.trio
async def test_space_is_what_is_left_and_what_is_taken(machine: Machine) -> None:
    space = await machine.disk.space()
    assert space.free_gb >= 0
    assert space.used_gb >= 1
