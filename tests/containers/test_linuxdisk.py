"""LinuxDisk where only a real machine can be wrong (docs/spec/lifecycle.md §12 "Volume", §15, §19)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import diskmachine
import pytest
import trio
from diskmachine import NAME, REQUEST, SIZE_GB, DiskMachine

from trionode.containers.disk import DiskError, VolumeRequest
from trionode.containers.machine import imagefiles
from trionode.containers.machine.commands import CommandError
from trionode.containers.machine.linuxdisk import LinuxDisk
from trionode.plans.containerdata import Mount, MountKind, parse_container_data
from trionode.plans.volumes import GB, SpaceRules

WITHOUT_RULES = SpaceRules(-1000, -1000, whole=False)
COMMANDS = {"fallocate": "allocate", "mkfs.ext4": "format", "mount": "mount", "crontab": "remember"}

pytestmark = pytest.mark.process


async def fails() -> None:
    raise CommandError("it was made to fail")


@pytest.mark.trio
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_that_did_its_work_and_failed_leaves_nothing(
    machine: DiskMachine, command: str
) -> None:
    machine.run.after[command] = fails
    with pytest.raises(DiskError) as caught:
        await machine.new_disk().create_volume(REQUEST)
    assert caught.value.step == COMMANDS[command]
    assert machine.left() == []


@pytest.mark.trio
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_that_is_cancelled_behind_its_work_leaves_nothing(
    machine: DiskMachine, command: str
) -> None:
    there = trio.Event()

    async def stay() -> None:
        if not there.is_set():
            there.set()
            await trio.sleep_forever()

    machine.run.after[command] = stay
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.new_disk().create_volume, REQUEST)
        await there.wait()
        nursery.cancel_scope.cancel()
    assert machine.left() == []


@pytest.mark.trio
@pytest.mark.parametrize("odd", ["a\0b", "a\ud800b"])
async def test_a_name_no_file_can_have_is_an_error_of_that_volume(machine: DiskMachine, odd: str) -> None:
    request = VolumeRequest(NAME, SIZE_GB, (Mount(MountKind.FOLDER, odd, "/x"),))
    with pytest.raises(DiskError) as caught:
        await machine.new_disk().create_volume(request)
    assert caught.value.step == "fill"
    assert machine.left() == []


@pytest.mark.trio
@pytest.mark.parametrize("after_s", [0.0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03])
async def test_a_cancellation_at_any_moment_leaves_nothing_or_a_whole_volume(
    machine: DiskMachine, after_s: float
) -> None:
    disk = machine.new_disk()
    with trio.move_on_after(after_s):
        await disk.create_volume(REQUEST)
    if await disk.volumes():
        assert await disk.is_mounted(NAME)
        await disk.remove_volume(NAME)
    assert machine.left() == []


@pytest.mark.trio
@pytest.mark.parametrize("after_s", [0.0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.025, 0.03, 0.04])
async def test_a_kill_at_any_moment_leaves_nothing_or_a_whole_volume(
    machine: DiskMachine, after_s: float
) -> None:
    with diskmachine.node(machine.folder, diskmachine.WITHOUT_STOP) as node:
        assert node.stdout is not None
        await trio.to_thread.run_sync(node.stdout.readline)
        await trio.sleep(after_s)
        node.kill()
    disk = machine.new_disk()
    if await disk.volumes():
        assert set(machine.holds(NAME)) == {".stfolder", ".stignore", "appdata", "media", "start.conf"}
        await disk.remove_volume(NAME)
    assert machine.left() == []


@pytest.mark.trio
async def test_a_folder_is_made_behind_the_file_that_tells_of_it(
    machine: DiskMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a node that is killed between the two would leave a folder that nobody clears away."""
    claim, there = imagefiles.claim, []

    def looking(file: str) -> int:
        there.append((machine.apps / NAME).exists())
        return claim(file)

    monkeypatch.setattr(imagefiles, "claim", looking)
    await machine.new_disk().create_volume(REQUEST)
    assert there == [False]


@pytest.mark.trio
async def test_a_folder_that_cannot_be_made_leaves_no_file(machine: DiskMachine) -> None:
    (machine.apps / NAME).write_text("in the way")
    with pytest.raises(DiskError) as caught:
        await machine.new_disk().create_volume(REQUEST)
    assert caught.value.step == "prepare"
    (machine.apps / NAME).unlink()
    assert machine.left() == []


@pytest.mark.trio
@pytest.mark.parametrize("command", ["fallocate", "mkfs.ext4", "mount"])
@pytest.mark.parametrize("how", ["looked", "made again", "removed"])
async def test_a_command_that_outlives_its_node_is_waited_for(
    machine: DiskMachine, command: str, how: str
) -> None:
    with diskmachine.node(machine.folder, f"{diskmachine.SLOW}{command}") as node:
        assert node.stdout is not None
        await trio.to_thread.run_sync(node.stdout.readline)
        node.kill()
    assert machine.running() != []
    disk = machine.new_disk()

    async def end_soon() -> None:
        await trio.sleep(0.3)
        machine.let_go()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_soon)
        if how == "looked":
            assert await disk.volumes() == ()
        elif how == "made again":
            await disk.create_volume(REQUEST)
        else:
            await disk.remove_volume(NAME)
        assert machine.running() == []
    await disk.remove_volume(NAME)
    assert machine.left() == []


@pytest.mark.trio
async def test_what_another_process_is_making_is_let_alone(machine: DiskMachine) -> None:
    with diskmachine.node(machine.folder, "finish") as node:
        assert node.stdout is not None
        await trio.to_thread.run_sync(node.stdout.readline)
        disk = machine.new_disk(settle_s=1.0)
        before = machine.left()
        await disk.volumes()
        with pytest.raises(DiskError, match="already"):
            await disk.create_volume(REQUEST)
        assert machine.left() == before
        node.kill()
    # Our own first look may still wait for the lock, and have it for a moment when it is free.
    with trio.fail_after(120):
        while machine.left():
            await disk.volumes()


@pytest.mark.trio
async def test_a_node_whose_mounts_nobody_sees_makes_no_volume(machine: DiskMachine) -> None:
    own_view = ("unshare", "--mount", "--propagation", "slave")
    with diskmachine.node(machine.folder, "finish", *own_view) as node:
        assert node.stdout is not None
        assert node.stderr is not None
        assert await trio.to_thread.run_sync(node.stdout.readline) == b""
        assert b"nobody but this node would see" in await trio.to_thread.run_sync(node.stderr.read)
    assert machine.left() == []


@pytest.mark.trio
async def test_the_room_of_a_volume_is_taken_at_once_and_stays_taken(machine: DiskMachine) -> None:
    disk = machine.new_disk()
    await disk.create_volume(REQUEST)
    (found,) = await disk.volumes()
    status = await trio.Path(found.file).stat()
    assert status.st_size == round(SIZE_GB * GB)
    assert status.st_blocks * 512 >= status.st_size
    assert status.st_mode & 0o777 == 0o600


@pytest.mark.trio
async def test_the_time_of_a_mount_is_known_after_a_reboot(machine: DiskMachine) -> None:
    disk = machine.new_disk()
    before_ms = int(time.time()) * 1000
    await disk.create_volume(REQUEST)
    machine.reboot()
    (found,) = await machine.new_disk().volumes()
    assert found.mounted_ms is not None
    assert before_ms <= found.mounted_ms <= int(time.time()) * 1000


@pytest.mark.trio
async def test_a_disk_that_is_fuller_than_it_said_takes_no_volume(machine: DiskMachine) -> None:
    disk = machine.new_disk(rules=WITHOUT_RULES)
    with pytest.raises(DiskError, match="No space left") as caught:
        await disk.create_volume(VolumeRequest(NAME, 0.2))
    assert caught.value.step == "allocate"
    assert machine.left() == []
    await disk.create_volume(REQUEST)


@pytest.mark.trio
async def test_a_disk_that_fills_up_with_volumes_is_free_again_without_them(machine: DiskMachine) -> None:
    disk = machine.new_disk()
    made: list[str] = []
    problem = None
    while problem is None and len(made) < 20:
        made.append(f"flux{len(made)}")
        try:
            await disk.create_volume(VolumeRequest(made[-1], SIZE_GB))
        except DiskError as error:
            problem = error
    assert problem is not None
    assert problem.step == "room"
    assert len(made) > 2
    for name in made:
        await disk.remove_volume(name)
    assert machine.left() == []


@pytest.mark.trio
async def test_a_volume_that_is_in_use_goes_all_the_same(machine: DiskMachine) -> None:
    disk = machine.new_disk()
    await disk.create_volume(REQUEST)
    user = await trio.lowlevel.open_process(["sleep", "60"], cwd=machine.apps / NAME)
    try:
        await disk.remove_volume(NAME)
        assert not await disk.is_mounted(NAME)
        assert not (machine.apps / NAME).exists()
    finally:
        user.kill()
        await user.wait()
    assert machine.left() == []


@pytest.mark.trio
async def test_mounts_that_lie_over_one_another_all_go(machine: DiskMachine) -> None:
    disk = machine.new_disk()
    await disk.create_volume(REQUEST)
    point = machine.apps / NAME
    for place in (point / "appdata", point, point):
        await trio.run_process(["mount", "-t", "tmpfs", "none", str(place)])
    await disk.remove_volume(NAME)
    assert machine.left() == []


@pytest.mark.trio
async def test_only_what_is_below_its_own_folder_is_deleted(machine: DiskMachine) -> None:
    disk = machine.new_disk()
    await disk.create_volume(REQUEST)
    outside = machine.folder / "precious"
    outside.mkdir()
    (outside / "letter").write_text("dear")
    (machine.apps / NAME / "appdata" / "link").symlink_to(outside)
    machine.lose_mount(NAME)
    (machine.apps / NAME / "link").symlink_to(outside)
    await disk.remove_volume(NAME)
    assert (outside / "letter").read_text() == "dear"
    assert machine.left() == []


@pytest.mark.trio
async def test_files_that_lay_where_a_volume_could_not_be_made_stay(machine: DiskMachine) -> None:
    (machine.apps / NAME).mkdir()
    (machine.apps / NAME / "notes").write_text("mine")
    machine.faults.failing["finish"] = 1
    with pytest.raises(DiskError):
        await machine.new_disk().create_volume(REQUEST)
    assert (machine.apps / NAME / "notes").read_text() == "mine"


@pytest.mark.trio
async def test_a_folder_with_something_in_it_is_shown_an_empty_one_is_nothing(machine: DiskMachine) -> None:
    (machine.apps / "fluxempty").mkdir()
    (machine.apps / "fluxfull" / "appdata").mkdir(parents=True)
    (machine.apps / "notes").mkdir()
    disk = machine.new_disk()
    (found,) = await disk.volumes()
    assert (found.name, found.file, found.is_mounted) == ("fluxfull", "", False)
    await disk.create_volume(VolumeRequest("fluxempty", SIZE_GB))
    for name in ("fluxempty", "fluxfull"):
        await disk.remove_volume(name)
    (machine.apps / "notes").rmdir()
    assert machine.left() == []


@pytest.mark.trio
async def test_a_volume_of_the_original_is_taken_over(machine: DiskMachine) -> None:
    disk = machine.new_disk()
    await disk.create_volume(REQUEST)
    (found,) = await disk.volumes()
    foreign = "15 4 * * * /usr/local/bin/backup # nightly"
    # its older form, which did not wait for the disk
    old = f"@reboot sudo mount -o loop {found.file} {machine.apps / NAME} #{NAME}"
    machine.crontab.write_text(f"{foreign}\n{old}\n")
    machine.lose_mount(NAME)
    (found,) = await disk.volumes()
    assert (found.is_mounted, found.survives_reboot) == (False, False)
    await disk.mount(NAME)
    lines = machine.crontab.read_text().splitlines()
    assert lines[0] == foreign
    assert len(lines) == 2
    assert "while [ ! -f " in lines[1]
    await disk.remove_volume(NAME)
    assert machine.crontab.read_text() == f"{foreign}\n"


@pytest.mark.trio
async def test_the_line_of_another_node_on_this_machine_stays(machine: DiskMachine) -> None:
    other = f"@reboot mount -o loop /elsewhere/{NAME}FLUXFSVOL /elsewhere/apps/{NAME} #{NAME}"
    machine.crontab.write_text(f"{other}\n")
    disk = machine.new_disk()
    await disk.create_volume(REQUEST)
    await disk.remove_volume(NAME)
    assert machine.crontab.read_text() == f"{other}\n"


@pytest.mark.trio
async def test_the_volume_of_another_node_on_the_same_disk_is_not_ours(machine: DiskMachine) -> None:
    neighbour = DiskMachine(machine.folder)
    neighbour.apps = machine.folder / "srv" / "more"
    theirs, ours = neighbour.new_disk(), machine.new_disk()
    await theirs.create_volume(REQUEST)
    assert await ours.volumes() == ()
    with pytest.raises(DiskError, match="another node"):
        await ours.create_volume(REQUEST)
    with pytest.raises(DiskError, match="no volume"):
        await ours.mount(NAME)
    await ours.remove_volume(NAME)
    (found,) = await theirs.volumes()
    assert (found.is_mounted, found.survives_reboot) == (True, True)
    assert set(neighbour.holds(NAME)) == {".stfolder", ".stignore", "appdata", "media", "start.conf"}
    line = neighbour.crontab.read_text()
    neighbour.wipe_lines()
    assert await ours.volumes() == ()
    await ours.remove_volume(NAME)
    assert await theirs.is_mounted(NAME)
    neighbour.crontab.write_text(line)
    neighbour.lose_mount(NAME)
    await ours.remove_volume(NAME)
    await theirs.mount(NAME)
    await theirs.remove_volume(NAME)
    neighbour.apps.rmdir()
    assert machine.left() == []


@pytest.mark.trio
async def test_a_line_without_a_volume_is_shown_and_can_be_removed(machine: DiskMachine) -> None:
    point = machine.apps / NAME
    machine.crontab.write_text(f"@reboot sudo mount -o loop {machine.data}/{NAME}FLUXFSVOL {point} #{NAME}\n")
    disk = machine.new_disk()
    (found,) = await disk.volumes()
    assert (found.name, found.file, found.is_mounted) == (NAME, "", False)
    await disk.remove_volume(NAME)
    assert machine.left() == []


@pytest.mark.trio
async def test_an_unreadable_crontab_is_never_overwritten(machine: DiskMachine) -> None:
    machine.crontab.mkdir()
    with pytest.raises(DiskError):
        await machine.new_disk().create_volume(REQUEST)
    assert machine.crontab.is_dir()
    machine.crontab.rmdir()
    assert machine.left() == []


@pytest.mark.trio
async def test_every_user_may_write_in_an_opened_folder(machine: DiskMachine) -> None:
    disk = machine.new_disk()
    await disk.create_volume(VolumeRequest(NAME, SIZE_GB, parse_container_data("g:/data").mounts, True))
    closed = machine.apps / NAME / "appdata" / "deep"
    closed.mkdir(mode=0o700)
    (closed / "file").touch(mode=0o600)
    await disk.open_folder(NAME)
    assert set(machine.holds(NAME).values()) == {"0o777"}
    with pytest.raises(DiskError) as caught:
        await disk.open_folder("fluxother")
    assert caught.value.step == "open"


@pytest.mark.trio
async def test_another_user_than_root_is_told_so(
    machine: DiskMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(DiskError, match="only root") as caught:
        await machine.new_disk().create_volume(REQUEST)
    assert "as root" in caught.value.remedy
    assert machine.left() == []


@pytest.mark.trio
@pytest.mark.parametrize(
    "place",
    [
        "system.slice/docker-{}.scope/cpu.max.burst",
        "docker/{}/cpu.max.burst",
        "cpu/system.slice/docker-{}.scope/cpu.cfs_burst_us",
        "cpu/docker/{}/cpu.cfs_burst_us",
    ],
)
async def test_spare_cpu_is_lent_where_the_container_is(tmp_path: Path, place: str) -> None:
    disk = LinuxDisk(str(tmp_path / "apps"), cgroups=str(tmp_path))
    container = "0123456789ab" * 5
    file = tmp_path / place.format(container)
    file.parent.mkdir(parents=True)
    with pytest.raises(DiskError, match="cannot lend"):
        await disk.burst(container, 50_000)
    file.write_text("0")
    await disk.burst(container, 50_000)
    assert file.read_text() == "50000"


@pytest.mark.trio
@pytest.mark.parametrize("container", ["", "../../etc", "0123", "x" * 64])
async def test_spare_cpu_is_lent_to_ids_of_containers_only(tmp_path: Path, container: str) -> None:
    disk = LinuxDisk(str(tmp_path / "apps"), cgroups=str(tmp_path))
    with pytest.raises(DiskError, match="no id"):
        await disk.burst(container, 1000)
