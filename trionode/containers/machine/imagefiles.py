"""Image files of volumes: where they may lie, which there are, and one that is being made.

Facts: docs/spec/lifecycle.md §12 "Volume". A file has another name until its volume is complete, and
who makes it holds a lock on it: the lock goes with the process, so one without was left by a killed node.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from trionode.containers.machine import mounts
from trionode.plans.crontab import VOLUME_SUFFIX
from trionode.plans.volumes import UNFINISHED, DataVolume, Entry, image_folder, volume_of_file
from trionode.runtime.logs import get_logger

log = get_logger("containers.disk")

OPEN = 0o777


class ImageFile(msgspec.Struct, frozen=True):
    """A file there is. `name`: the container whose volume it is."""

    name: str
    path: str

    @property
    def is_complete(self) -> bool:
        return not self.path.endswith(UNFINISHED)


class ImageFiles:
    """The files of this machine. `data_dirs`: mount points to use; empty: all disks of the machine."""

    def __init__(self, apps_dir: str, data_dirs: Sequence[str] = ()) -> None:
        self._apps_dir = apps_dir
        self._data_dirs = tuple(data_dirs)

    def data_volumes(self) -> tuple[DataVolume, ...]:
        """The file systems that may hold image files, in the order of their mounts."""
        if self._data_dirs:
            return tuple(mounts.measured(place) for place in self._data_dirs)
        disks = mounts.data_mounts(mounts.mounted(), self._apps_dir)
        return tuple(mounts.measured(disk.point, disk.source) for disk in disks)

    def folder(self, volume: DataVolume) -> str:
        """Where they lie on a file system."""
        return os.path.realpath(image_folder(volume.mount_point, self._apps_dir))

    def all(self, known: Iterable[str] = ()) -> tuple[ImageFile, ...]:
        """Every image file, and those of `known` places that are there."""
        folders = [self.folder(volume) for volume in self.data_volumes()]
        paths = [str(path) for folder in folders for path in sorted(Path(folder).glob(f"*{VOLUME_SUFFIX}*"))]
        paths += [os.path.realpath(path) for path in known if os.path.isfile(path)]
        found = ((volume_of_file(path), path) for path in dict.fromkeys(paths))
        return tuple(ImageFile(name, path) for name, path in found if name is not None)


def claim(path: str) -> int:
    """Make an empty file and hold it; the handle to let go by closing it. Raises OSError."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def is_claimed(path: str) -> bool:
    """Whether somebody is making it right now."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return True
        raise
    else:
        return False
    finally:
        os.close(handle)


def wait_until_let_go(path: str) -> None:
    """Return when nobody makes it any more: neither a node nor a command that outlived its node."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def finish(path: str) -> None:
    """Give it the name of a complete volume, for good: the folder is written too."""
    os.rename(path, path.removesuffix(UNFINISHED))
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def fill(point: str, wanted: Iterable[Entry]) -> None:
    """Make folders and files in which everybody may write."""
    for entry in wanted:
        path = Path(point, entry.name)
        if entry.is_file:
            path.write_text(entry.content, encoding="utf-8")
        else:
            path.mkdir(exist_ok=True)
        path.chmod(OPEN)


def unlink(path: str) -> None:
    """Delete a file; one that is not there is passed over."""
    Path(path).unlink(missing_ok=True)


def remove_if_empty(folder: str) -> None:
    """Delete a folder; one that held something before a volume was made over it stays."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        log.warning("the folder of an unfinished volume holds files and stays", folder=folder)
