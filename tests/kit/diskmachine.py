"""A machine with a small data disk of its own, for tests of LinuxDisk: real image files, loops and mounts.

The crontab is a file beside it, so that the machine's own stays untouched. Run as a program (`FOLDER STEP`)
it makes a volume and stays at a step until it is killed; at `none` it goes through, at
`slow COMMAND` that command takes its time, until `DiskMachine.let_go`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from trionode.containers.disk import VolumeRequest
from trionode.containers.machine.bootmounts import CrontabMounts
from trionode.containers.machine.commands import CommandError, Done, Run, SystemRun
from trionode.containers.machine.linuxdisk import LinuxDisk
from trionode.plans.containerdata import parse_container_data
from trionode.plans.volumes import SpaceRules

NAME = "fluxweb_shop"
SIZE_GB = 0.02
DISK_BYTES = 96 * 2**20
RULES = SpaceRules(least_gb=0.005, system_gb=0, whole=False)
REQUEST = VolumeRequest(
    NAME, SIZE_GB, parse_container_data("r:/data|m:media:/media|f:start.conf:/etc/start.conf").mounts, True
)
WITHOUT_STOP = "none"
SLOW = "slow "
SLOW_COMMAND = """
echo there >&$1
eval "exec $1>&-"
n=0
while [ ! -e "$2" ] && [ $n -lt 5000 ]; do n=$((n+1)); sleep 0.02; done
shift 2
exec "$@"
"""
"""Says that it begins, to the file of that number; goes on when there is a file of that name."""
SETTLES_WITHIN_S = 60.0
TOOLS = ("fallocate", "mkfs.ext4", "mount", "umount", "losetup")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def why_not() -> str | None:
    """Why no volume can be mounted on this machine, None when one can."""
    if os.geteuid() != 0:
        return "only root mounts volumes"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if missing:
        return f"{', '.join(missing)} missing"
    if subprocess.run(["losetup", "-f"], capture_output=True, check=False).returncode != 0:
        return "this machine has no loop devices"
    return None


class Faults:
    """Steps that fail (None: always, else so often) or never end, told of by `on_step`."""

    def __init__(self) -> None:
        self.failing: dict[str, int | None] = {}
        self.hanging: set[str] = set()
        self.steps: list[tuple[str, str]] = []
        self.hangs = trio.Event()

    async def __call__(self, step: str, name: str) -> None:
        self.steps.append((step, name))
        if step in self.hanging:
            self.hangs.set()
            await trio.sleep_forever()
        left = self.failing.get(step, 0)
        if left is None or left > 0:
            self.failing[step] = None if left is None else left - 1
            raise CommandError(f"{step} was made to fail")


class FileCron:
    """`Run` in which the crontab is a file, and commands can be made to fail after they did their work."""

    def __init__(self, crontab: Path) -> None:
        self._crontab = crontab
        self._run = SystemRun()
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}
        """By command: what happens when it has done its work."""
        self.slow = ""
        """A command that says when it begins, and goes on when there is the file `go`."""

    async def __call__(self, *words: str, given: str = "", holding: Sequence[int] = ()) -> Done:
        if words[0] == "crontab":
            done = self._cron(words[1], given)
        elif words[0] == self.slow:
            out = os.dup(1)
            go = str(self._crontab.with_name("go"))
            slowly = ("sh", "-c", SLOW_COMMAND, "sh", str(out), go, *words)
            done = await self._run(*slowly, given=given, holding=[*holding, out])
        else:
            done = await self._run(*words, given=given, holding=holding)
        if words[0] in self.after and words[:2] != ("crontab", "-l"):
            await self.after[words[0]]()
        return done

    def _cron(self, word: str, given: str) -> Done:
        if word == "-":
            self._crontab.write_text(given)
        elif not self._crontab.exists():
            return Done(1, "", "no crontab for root\n")
        elif word == "-r":
            self._crontab.unlink()
        return Done(0, self._crontab.read_text() if word == "-l" else "")


class DiskMachine:
    """The machine; `new_disk` is what a node process has of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.apps = folder / "srv" / "apps"
        self.crontab = folder / "crontab"
        self.faults = Faults()
        self.run = FileCron(self.crontab)

    def set_up(self) -> None:
        self.data.mkdir()
        self.apps.mkdir(parents=True)
        image = self.folder / "disk.img"
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        _must("mkfs.ext4", "-F", "-q", str(image))
        # Namespaces that others make meanwhile (`ip netns exec`) copy all mounts; of a shared one they learn
        # when it is gone, else they would keep our loop devices busy.
        _must("mount", "--bind", str(self.folder), str(self.folder))
        _must("mount", "--make-shared", str(self.folder))
        _must("mount", "-o", "loop", str(image), str(self.data))

    def tear_down(self) -> None:
        """Takes away whatever a failed test left, then the data disk."""
        for point in [*reversed(self.mounts()), str(self.folder)]:
            if subprocess.run(["umount", point], capture_output=True, check=False).returncode != 0:
                # whatever keeps it busy: pytest must not find it, it deletes old folders with all in them
                subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
        for device in self.loops():
            subprocess.run(["losetup", "-d", device.split()[0]], capture_output=True, check=False)

    def new_disk(
        self, *, rules: SpaceRules = RULES, run: Run | None = None, settle_s: float = SETTLES_WITHIN_S
    ) -> LinuxDisk:
        used = self.run if run is None else run
        crontab = CrontabMounts(used, lock_file=str(self.folder / "lock"), sudo=False)
        return LinuxDisk(
            str(self.apps),
            rules=rules,
            data_dirs=[str(self.data)],
            run=used,
            boots=crontab,
            on_step=self.faults,
            settle_s=settle_s,
        )

    def let_go(self) -> None:
        """A slow command need not be slow any longer."""
        (self.folder / "go").touch()

    def left(self) -> list[str]:
        """All there is beyond its data disk: files, folders, mounts, loop devices, cron lines."""
        return _settled(self._left)

    def loops_left(self) -> list[str]:
        """Its loop devices, its data disk's among them."""
        return _settled(self.loops)

    def _left(self) -> list[str]:
        places = [self.data, self.apps, self.folder / "srv"]
        files = {str(path) for place in places for path in place.rglob("*")}
        points = [point for point in self.mounts() if point != str(self.data)]
        loops = [loop for loop in self.loops() if not loop.endswith("/disk.img")]
        lines = self.crontab.read_text().splitlines() if self.crontab.exists() else []
        kept = {str(self.apps), str(self.data / "lost+found")}
        return sorted(files - kept) + points + loops + lines

    def mounts(self) -> list[str]:
        table = Path("/proc/self/mounts").read_text().splitlines()
        points = [line.split()[1] for line in table]
        return [point for point in points if point.startswith(f"{self.folder}/")]

    def loops(self) -> list[str]:
        listed = subprocess.run(
            ["losetup", "-l", "-n", "-O", "NAME,BACK-FILE"], capture_output=True, text=True, check=True
        ).stdout
        return [" ".join(line.split()) for line in listed.splitlines() if f" {self.folder}/" in line]

    def running(self) -> list[str]:
        """Processes that work on it, besides this one."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode(errors="replace").replace("\0", " ")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            if f"{self.folder}/" in words:
                found.append(words)
        return found

    def holds(self, name: str) -> dict[str, str]:
        """What is in the volume: name -> mode, of files and folders."""
        root = self.apps / name
        found = (path for path in sorted(root.rglob("*")) if path.name != "lost+found")
        return {str(path.relative_to(root)): oct(path.stat().st_mode & 0o777) for path in found}

    def reboot(self, *, mounts_come_back: bool = True) -> None:
        """Nothing of the apps is mounted any more; then cron runs its lines."""
        for point in reversed(self.mounts()):
            if point != str(self.data):
                _must("umount", point)
        if mounts_come_back and self.crontab.exists():
            for line in self.crontab.read_text().splitlines():
                _must("sh", "-c", line.removeprefix("@reboot "))

    def lose_mount(self, name: str) -> None:
        _must("umount", str(self.apps / name))

    def wipe_lines(self) -> None:
        self.crontab.unlink(missing_ok=True)


@contextmanager
def node(folder: Path, step: str, *before: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that makes a volume and stays at a step; it says so in one line. `before`: run by this.

    It is killed at the end of the block.
    """
    words = [*before, sys.executable, __file__, str(folder), step]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _settled(look: Callable[[], list[str]]) -> list[str]:
    """The kernel lets go of a loop device a little after its mount, so these alone are looked at again."""
    deadline = time.monotonic() + SETTLES_WITHIN_S
    while found := look():
        if time.monotonic() > deadline or not all(line.startswith("/dev/loop") for line in found):
            break
        time.sleep(0.02)
    return found


def _must(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "PATH": PATH}, timeout=120)


async def _make(folder: Path, step: str) -> None:
    machine = DiskMachine(folder)
    machine.faults.hanging.add(step)
    if step.startswith(SLOW):
        machine.run.slow = step.removeprefix(SLOW)
    async with trio.open_nursery() as nursery:
        if step == WITHOUT_STOP:
            print("there", flush=True)
        nursery.start_soon(machine.new_disk().create_volume, REQUEST)
        await machine.faults.hangs.wait()
        print("there", flush=True)


if __name__ == "__main__":
    trio.run(_make, Path(sys.argv[1]), sys.argv[2])
