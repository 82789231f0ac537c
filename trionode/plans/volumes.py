"""Room for volumes, where their files lie, and what must be in them (docs/spec/lifecycle.md §12 "Volume").

GB are 2^30 bytes, as the file of a volume of N GB is allocated. Sizes may be fractions of a GB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from trionode.config.tree import ResourceSettings
from trionode.plans.containerdata import OWN_FOLDER, Mount
from trionode.plans.crontab import VOLUME_SUFFIX

GB = 2**30
UNFINISHED = ".unfinished"
"""Behind the name of an image file that is not a volume yet."""
IMAGES_FOLDER = "appvolumes"
"""Beside the apps folder: files of volumes that lie on the system disk."""
SYNC_FOLDER = ".stfolder"
SYNC_IGNORE = ".stignore"
SYNC_IGNORED = "/backup\n"
_NAME = re.compile(r"(?:flux|zel)[A-Za-z0-9_.-]{0,200}")
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_.+@=,:-]+)+|/")


class DataVolume(msgspec.Struct, frozen=True):
    """A file system that may hold volumes: its device, where it is mounted, and its bytes."""

    device: str
    mount_point: str
    free_bytes: int
    used_bytes: int

    @property
    def free_gb(self) -> int:
        return self.free_bytes // GB

    @property
    def used_gb(self) -> int:
        return -(-self.used_bytes // GB)


class SpaceRules(msgspec.Struct, frozen=True):
    """What is kept free: `least_gb` always, and so much that with what is used it makes `system_gb`.

    `whole`: what is free counts in whole GB; False for volumes smaller than that.
    """

    least_gb: float = 20
    system_gb: float = 80
    whole: bool = True


USUAL_RULES = SpaceRules()


class Entry(msgspec.Struct, frozen=True):
    """Something a volume has to hold: a folder, or a file with its first content."""

    name: str
    is_file: bool = False
    content: str = ""


def space_rules(settings: ResourceSettings) -> SpaceRules:
    """The rules as the settings have them."""
    extra_gb = settings.locked_extra_hdd_gb
    return SpaceRules(extra_gb, settings.locked_hdd_gb + extra_gb)


def is_volume_name(name: str) -> bool:
    """Whether it is the name of a container: only such names ever become part of a path or a command."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def is_plain_path(path: str) -> bool:
    """Whether a folder can stand in a crontab line and in a unit without being quoted."""
    return _PLAIN.fullmatch(path) is not None and ".." not in path


def allotment_problem(
    hdd_gb: float, *, ssd_gb: float, locked_gb: float, settings: ResourceSettings
) -> str | None:
    """Why the disk the node was measured with has no room, in a sentence; None when it has.

    `locked_gb`: of all installed apps, the one being installed among them (its row is there already), so
    this one component is counted back.
    """
    kept_gb = settings.locked_hdd_gb + settings.locked_extra_hdd_gb
    extra_gb = settings.component_hdd_gb + settings.component_swap_gb
    room_gb = ssd_gb * settings.usable_hdd_share - kept_gb - locked_gb + hdd_gb + extra_gb
    if hdd_gb < room_gb:
        return None
    return f"A volume of {hdd_gb:g} GB is wanted, {max(room_gb, 0):g} GB are left for apps on this node."


def reserve_gb(volumes: Iterable[DataVolume], rules: SpaceRules = USUAL_RULES) -> float:
    """What has to stay free on the data volumes, in GB."""
    return max(rules.least_gb, rules.system_gb - sum(volume.used_gb for volume in volumes))


def space_problem(
    size_gb: float, volumes: Sequence[DataVolume], rules: SpaceRules = USUAL_RULES
) -> str | None:
    """Why there is no place for a volume of that size, in a sentence; None when there is one."""
    if place_for(size_gb, volumes, rules) is not None:
        return None
    free_gb = sum(_free_gb(volume, rules) for volume in volumes)
    kept_gb = reserve_gb(volumes, rules)
    return (
        f"a volume of {size_gb:g} GB is wanted; {free_gb:g} GB are free on {len(volumes)} disks, "
        f"of which {kept_gb:g} GB are kept and one disk must hold it whole"
    )


def place_for(
    size_gb: float, volumes: Sequence[DataVolume], rules: SpaceRules = USUAL_RULES
) -> DataVolume | None:
    """The first data volume with room for it and the reserve; None when there is none."""
    kept_gb = reserve_gb(volumes, rules)
    if not size_gb < sum(_free_gb(volume, rules) for volume in volumes) - kept_gb:
        return None
    return next((volume for volume in volumes if _free_gb(volume, rules) > size_gb + kept_gb), None)


def _free_gb(volume: DataVolume, rules: SpaceRules) -> float:
    return volume.free_gb if rules.whole else volume.free_bytes / GB


def image_folder(mount_point: str, apps_dir: str) -> str:
    """Where image files lie on a data volume."""
    if mount_point != "/":
        return mount_point
    parent = apps_dir.rstrip("/").rpartition("/")[0]
    return f"{parent}/{IMAGES_FOLDER}"


def image_file(name: str, mount_point: str, apps_dir: str) -> str:
    """The image file of a volume."""
    return f"{image_folder(mount_point, apps_dir).rstrip('/')}/{name}{VOLUME_SUFFIX}"


def volume_of_file(path: str) -> str | None:
    """Whose image file it is, complete or not; None of another file."""
    file = path.rpartition("/")[2].removesuffix(UNFINISHED)
    name = file.removesuffix(VOLUME_SUFFIX)
    return name if name != file and is_volume_name(name) else None


def entries(mounts: Sequence[Mount], *, syncs: bool) -> tuple[Entry, ...]:
    """What is made in a new volume: own folders and files, and what file sync needs.

    File sync works on the whole volume, in which `backup` is a name kept for backups: they are not synced.
    """
    own = [mount for mount in mounts if mount.component is None]
    found = {OWN_FOLDER: Entry(OWN_FOLDER)}
    found.update({mount.name: Entry(mount.name, mount.is_file) for mount in own})
    if syncs:
        found[SYNC_FOLDER] = Entry(SYNC_FOLDER)
        found[SYNC_IGNORE] = Entry(SYNC_IGNORE, is_file=True, content=SYNC_IGNORED)
    return tuple(found.values())
