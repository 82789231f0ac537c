"""What is mounted on this machine, read from the kernel (docs/spec/lifecycle.md §12 "mount verified").

The same table `findmnt` shows, without a process for every look.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from trionode.plans.volumes import DataVolume

TABLE = "/proc/self/mountinfo"
BLOCK_DEVICES = "/sys/block"
READ_ONLY_KINDS = frozenset({"squashfs", "iso9660", "erofs"})
GONE = " (deleted)"
_SUPERBLOCK = 1024
_MAGIC = (0x38, b"\x53\xef")
_MOUNTED_AT = 0x2C
_MOUNTED_AT_HIGH = 0x275
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mounted(msgspec.Struct, frozen=True):
    """One mount. `root`: which folder of its file system is seen there, "/" for the whole.

    `follows`: it is a copy; what is mounted below it here is not seen where it was copied from.
    """

    point: str
    source: str
    kind: str
    root: str = "/"
    writable: bool = True
    follows: bool = False


def read_table(text: str) -> tuple[Mounted, ...]:
    """The kernel's table, in its order: a later mount lies over an earlier one of the same place."""
    found = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        places, what = left.split(" "), right.split(" ")
        if separator and len(places) >= 6 and len(what) >= 2:
            writable = "rw" in places[5].split(",") and "rw" in what[-1].split(",")
            follows = any(field.startswith("master:") for field in places[6:])
            point, root = _plain(places[4]), _plain(places[3])
            found.append(Mounted(point, _plain(what[1]), what[0], root, writable, follows))
    return tuple(found)


def mounted(table: str = TABLE) -> tuple[Mounted, ...]:
    """What is mounted now."""
    return read_table(Path(table).read_text(encoding="utf-8", errors="surrogateescape"))


def at(point: str, mounts: Iterable[Mounted]) -> Mounted | None:
    """What is seen at a place: the mount on top, None when nothing is mounted there."""
    return next((mount for mount in reversed(tuple(mounts)) if mount.point == point), None)


def below(point: str, mounts: Iterable[Mounted]) -> list[Mounted]:
    """Mounts at a place and under it, in the order in which they can be taken away."""
    return [m for m in reversed(tuple(mounts)) if m.point == point or m.point.startswith(f"{point}/")]


def is_hidden(folder: str, mounts: Iterable[Mounted]) -> bool:
    """Whether what is mounted below a folder is seen by this process and its children alone.

    So it is under a service manager that gives the node a view of the file system of its own: containers
    would find an empty folder in place of their volume.
    """
    over = [m for m in mounts if folder == m.point or folder.startswith(f"{m.point.rstrip('/')}/")]
    return bool(over) and max(over, key=lambda mount: len(mount.point)).follows and _has_own_view()


def loops(devices: str = BLOCK_DEVICES) -> dict[str, str]:
    """Loop devices and the image files behind them, one that was deleted since included."""
    found = {}
    for entry in sorted(Path(devices).glob("loop*/loop/backing_file")):
        try:
            backing = entry.read_text(errors="surrogateescape").strip()
        except OSError:
            # detached between the look at the list and the look at its file: there is no such loop any more
            continue
        found[f"/dev/{entry.parts[-3]}"] = backing.removesuffix(GONE)
    return found


def data_mounts(mounts: Sequence[Mounted], apps_dir: str) -> list[Mounted]:
    """File systems on disks of this machine, each once: no loop devices (but for the root), no /boot."""
    found: dict[str, Mounted] = {}
    for mount in mounts:
        is_disk = mount.source.startswith("/dev/") and mount.root in ("/", "/@", "/@rootfs")
        is_loop = mount.source.startswith("/dev/loop") and mount.point != "/"
        is_boot = mount.point == "/boot" or mount.point.startswith("/boot/")
        is_app = mount.point.startswith(f"{apps_dir}/")
        fits = mount.writable and mount.kind not in READ_ONLY_KINDS
        if is_disk and fits and not (is_loop or is_boot or is_app):
            found.setdefault(mount.source, mount)
    return list(found.values())


def measured(point: str, device: str = "") -> DataVolume:
    """How much room there is at a mount point, for others than root."""
    sizes = os.statvfs(point)
    unit = sizes.f_frsize
    return DataVolume(device, point, sizes.f_bavail * unit, (sizes.f_blocks - sizes.f_bfree) * unit)


def last_mounted_ms(file: str) -> int | None:
    """When the ext4 in an image file was mounted last: it notes that itself, to the second."""
    with open(file, "rb") as image:
        image.seek(_SUPERBLOCK)
        block = image.read(1024)
    place, magic = _MAGIC
    if len(block) < 1024 or block[place : place + 2] != magic:
        return None
    seconds = int.from_bytes(block[_MOUNTED_AT : _MOUNTED_AT + 4], "little")
    seconds |= block[_MOUNTED_AT_HIGH] << 32
    return seconds * 1000 or None


def _has_own_view() -> bool:
    try:
        return os.readlink("/proc/self/ns/mnt") != os.readlink("/proc/1/ns/mnt")
    except PermissionError:
        # nothing to compare with: the mount itself says that it is a copy
        return True


def _plain(field: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found.group(1), 8)), field)
