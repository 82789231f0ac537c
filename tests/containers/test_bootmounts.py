"""What is mounted after a reboot: lines of a crontab, units of systemd (docs/spec/lifecycle.md §12, §19)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import diskmachine
import pytest
import trio

from trionode.containers.machine.bootmounts import BootMount, CrontabMounts, UnitMounts, boot_mounts
from trionode.containers.machine.commands import CommandError, Done, ProgramMissing
from trionode.plans.mountunits import MountUnit

NAME = "fluxweb_shop"
FILE = f"/data/{NAME}FLUXFSVOL"
POINT = f"/srv/apps/{NAME}"
OLD_LINE = f"@reboot sudo mount -o loop {FILE} {POINT} #{NAME}"
FOREIGN = "# my jobs\n15 4 * * * backup\n@reboot mount -o loop /a /b\n"
UNIT = MountUnit(NAME, FILE, POINT)


class Machine:
    """`crontab` and `systemctl` of a made-up machine. `broken`: commands that fail; None: no cron."""

    def __init__(self, crontab: str | None = "") -> None:
        self.crontab = crontab
        self.has_cron = crontab is not None
        self.broken: set[str] = set()
        self.told: list[tuple[str, ...]] = []

    async def __call__(self, *words: str, given: str = "", holding: Sequence[int] = ()) -> Done:
        await trio.lowlevel.checkpoint()
        self.told.append(words)
        if " ".join(words) in self.broken:
            return Done(1, "", "out of order")
        if words[0] != "crontab":
            return Done(0)
        if not self.has_cron:
            raise ProgramMissing("the command crontab is not there")
        if words[1] == "-":
            self.crontab = given
        elif words[1] == "-r":
            self.crontab = ""
        elif not self.crontab:
            return Done(1, "", "no crontab for root")
        return Done(0, self.crontab or "")


def crontab_of(machine: Machine, tmp_path: Path, *, sudo: bool = False) -> CrontabMounts:
    return CrontabMounts(machine, lock_file=str(tmp_path / "lock"), sudo=sudo)


def units_of(machine: Machine, tmp_path: Path) -> UnitMounts:
    folder = tmp_path / "units"
    folder.mkdir(exist_ok=True)
    return UnitMounts(machine, crontab_of(machine, tmp_path), str(folder))


@pytest.mark.trio
async def test_a_line_is_added_once_and_taken_away_alone(tmp_path: Path) -> None:
    machine = Machine(FOREIGN)
    boots = crontab_of(machine, tmp_path)
    await boots.remember(NAME, FILE, POINT)
    await boots.remember(NAME, FILE, POINT)
    assert machine.crontab is not None
    assert machine.crontab.startswith(FOREIGN)
    assert machine.crontab.count(NAME) == 4  # the file twice, the place, the comment
    assert await boots.all() == (BootMount(NAME, FILE, POINT),)
    await boots.forget(POINT)
    assert machine.crontab == FOREIGN
    assert await boots.all() == ()


@pytest.mark.trio
@pytest.mark.parametrize("sudo", [True, False])
async def test_sudo_is_written_where_the_machine_has_it(tmp_path: Path, sudo: bool) -> None:
    machine = Machine()
    boots = crontab_of(machine, tmp_path, sudo=sudo)
    await boots.remember(NAME, FILE, POINT)
    assert machine.crontab is not None
    assert (" sudo mount " in machine.crontab) is sudo
    assert await boots.all() == (BootMount(NAME, FILE, POINT),)


@pytest.mark.trio
async def test_without_lines_there_is_no_crontab(tmp_path: Path) -> None:
    machine = Machine()
    boots = crontab_of(machine, tmp_path)
    await boots.forget(POINT)
    await boots.remember(NAME, FILE, POINT)
    await boots.forget(POINT)
    assert machine.told[-1] == ("crontab", "-r")


@pytest.mark.trio
async def test_an_old_line_is_known_as_such_and_replaced(tmp_path: Path) -> None:
    machine = Machine(f"{OLD_LINE}\n")
    boots = crontab_of(machine, tmp_path)
    assert await boots.all() == (BootMount(NAME, FILE, POINT, is_right=False),)
    await boots.remember(NAME, FILE, POINT)
    assert await boots.all() == (BootMount(NAME, FILE, POINT),)
    assert machine.crontab is not None
    assert machine.crontab.count("@reboot") == 1


@pytest.mark.trio
async def test_a_crontab_that_cannot_be_read_is_not_written(tmp_path: Path) -> None:
    machine = Machine(FOREIGN)
    machine.broken.add("crontab -l")
    boots = crontab_of(machine, tmp_path)
    for change in (boots.remember(NAME, FILE, POINT), boots.forget(POINT), boots.all()):
        with pytest.raises(CommandError, match="out of order"):
            await change
    assert machine.crontab == FOREIGN


@pytest.mark.trio
async def test_without_cron_nothing_is_remembered_but_all_is_forgotten(tmp_path: Path) -> None:
    machine = Machine(None)
    boots = crontab_of(machine, tmp_path)
    assert await boots.all() == ()
    await boots.forget(POINT)
    with pytest.raises(ProgramMissing):
        await boots.remember(NAME, FILE, POINT)


@pytest.mark.trio
async def test_several_at_once_lose_no_line(tmp_path: Path) -> None:
    machine = Machine(FOREIGN)
    names = [f"flux{number}" for number in range(20)]
    async with trio.open_nursery() as nursery:
        for name in names:
            boots = crontab_of(machine, tmp_path)
            nursery.start_soon(boots.remember, name, f"/data/{name}FLUXFSVOL", f"/srv/apps/{name}")
    assert {boot.name for boot in await crontab_of(machine, tmp_path).all()} == set(names)


@pytest.mark.trio
async def test_a_unit_is_written_wanted_and_told_of_once(tmp_path: Path) -> None:
    machine = Machine()
    boots = units_of(machine, tmp_path)
    await boots.remember(NAME, FILE, POINT)
    written = tmp_path / "units" / UNIT.file_name
    assert written.read_text() == UNIT.text()
    wish = tmp_path / "units" / "multi-user.target.wants" / UNIT.file_name
    assert wish.resolve() == written
    assert await boots.all() == (BootMount(NAME, FILE, POINT),)
    await boots.remember(NAME, FILE, POINT)
    assert machine.told.count(("systemctl", "daemon-reload")) == 1
    await boots.forget(POINT)
    assert not written.exists()
    assert not wish.is_symlink()
    assert sorted(path.name for path in (tmp_path / "units").rglob("*")) == ["multi-user.target.wants"]
    assert machine.told.count(("systemctl", "daemon-reload")) == 2
    await boots.forget(POINT)
    assert machine.told.count(("systemctl", "daemon-reload")) == 2


@pytest.mark.trio
async def test_a_crontab_line_makes_way_for_its_unit(tmp_path: Path) -> None:
    machine = Machine(f"{FOREIGN}{OLD_LINE}\n")
    boots = units_of(machine, tmp_path)
    assert await boots.all() == (BootMount(NAME, FILE, POINT, is_right=False),)
    await boots.remember(NAME, FILE, POINT)
    assert machine.crontab == FOREIGN
    assert await boots.all() == (BootMount(NAME, FILE, POINT),)


@pytest.mark.trio
async def test_a_line_that_never_became_a_unit_is_forgotten_too(tmp_path: Path) -> None:
    machine = Machine(f"{FOREIGN}{OLD_LINE}\n")
    await units_of(machine, tmp_path).forget(POINT)
    assert machine.crontab == FOREIGN


@pytest.mark.trio
async def test_units_of_others_are_let_alone(tmp_path: Path) -> None:
    machine = Machine(None)
    boots = units_of(machine, tmp_path)
    other = tmp_path / "units" / "data.mount"
    other.write_text(f"[Mount]\nWhat=/dev/sda1\nWhere={POINT}\n")
    assert await boots.all() == ()
    await boots.forget(POINT)
    assert other.exists()


@pytest.mark.trio
async def test_a_systemd_that_does_not_answer_is_a_problem(tmp_path: Path) -> None:
    machine = Machine()
    machine.broken.add("systemctl daemon-reload")
    with pytest.raises(CommandError, match="daemon-reload"):
        await units_of(machine, tmp_path).remember(NAME, FILE, POINT)


def test_units_are_chosen_where_systemd_runs(tmp_path: Path) -> None:
    assert isinstance(boot_mounts(Machine(), str(tmp_path)), UnitMounts)
    assert isinstance(boot_mounts(Machine(), str(tmp_path / "none")), CrontabMounts)


REAL = """
import trio
from pathlib import Path
from trionode.containers.machine.bootmounts import CrontabMounts
from trionode.containers.machine.commands import SystemRun

async def main():
    run = SystemRun()
    boots = CrontabMounts(run, lock_file={lock!r})
    assert await boots.all() == ()
    await run("crontab", "-", given="15 4 * * * true\\n")
    await boots.remember({name!r}, {file!r}, {point!r})
    (found,) = await boots.all()
    assert found.is_right and found.volume_file == {file!r}, found
    await boots.forget({point!r})
    assert (await run("crontab", "-l")).output == "15 4 * * * true\\n"
    await run("crontab", "-r")
    await boots.remember({name!r}, {file!r}, {point!r})
    await boots.forget({point!r})
    assert (await run("crontab", "-l")).status == 1

trio.run(main)
print("well")
"""


@pytest.mark.process
@pytest.mark.trio
async def test_the_real_crontab_program(tmp_path: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("crontab", path=diskmachine.PATH) or not shutil.which("unshare"):
        pytest.skip("needs root, crontab and unshare")
    program = REAL.format(lock=str(tmp_path / "lock"), name=NAME, file=FILE, point=POINT)
    # the crontabs of this machine stay untouched: a folder of its own lies over them
    over = "mount -t tmpfs -o mode=1730 none /var/spool/cron/crontabs"
    done = await trio.run_process(
        ["unshare", "--mount", "sh", "-c", f'{over} && exec "$0" -c "$1"', sys.executable, program],
        capture_stdout=True,
    )
    assert done.stdout == b"well\n"
