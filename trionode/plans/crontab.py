"""The crontab lines that mount app volumes after a reboot (docs/spec/lifecycle.md §12, §19).

A node that was run by the original has such lines; they are read, completed and removed in its form, so
that either software finds the volumes of the other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

import msgspec

from trionode.lifecycle.names import container_name

VOLUME_SUFFIX = "FLUXFSVOL"
_MOUNT = re.compile(rf"(?:sudo )?mount -o loop (\S+{VOLUME_SUFFIX}) (\S+)")
_WAIT = "while [ ! -f "


class MountJob(msgspec.Struct, frozen=True):
    """A command run at boot, and the comment behind it, which is the container's name."""

    command: str
    comment: str = ""

    @property
    def volume_file(self) -> str | None:
        found = _MOUNT.search(self.command)
        return None if found is None else found.group(1)

    @property
    def mount_point(self) -> str | None:
        found = _MOUNT.search(self.command)
        return None if found is None else found.group(2)

    @property
    def waits(self) -> bool:
        """Whether it waits for the disk that holds the volume."""
        return _WAIT in self.command

    @property
    def container(self) -> str | None:
        """Whose volume it is: the comment, else the name of the file."""
        if self.comment:
            return self.comment
        file = self.volume_file
        return None if file is None else file.rpartition("/")[2].removesuffix(VOLUME_SUFFIX) or None

    def upgraded(self) -> MountJob:
        """The same job, waiting for its volume file."""
        if self.waits or self.volume_file is None:
            return self
        return MountJob(f"{_wait_for(self.volume_file)}{self.command}", self.comment)

    def line(self) -> str:
        """Its line of the crontab."""
        return f"@reboot {self.command} #{self.comment}" if self.comment else f"@reboot {self.command}"


def mount_job(identifier: str, volume_file: str, mount_point: str, *, sudo: bool = True) -> MountJob:
    """The job of a new volume. `sudo`: the original's form, for machines that have it."""
    mount = f"mount -o loop {volume_file} {mount_point}"
    command = f"{_wait_for(volume_file)}{'sudo ' if sudo else ''}{mount}"
    return MountJob(command, container_name(identifier))


def read_jobs(lines: Iterable[str]) -> list[MountJob]:
    """The jobs of a crontab that mount a volume; other lines are none of ours."""
    found = []
    for line in lines:
        if line.startswith("@reboot "):
            command, _, comment = line.removeprefix("@reboot ").partition(" #")
            job = MountJob(command.strip(), comment.strip())
            if job.volume_file is not None:
                found.append(job)
    return found


class KeepJob(msgspec.Struct, frozen=True):
    """It is as it should be."""

    job: MountJob
    reason: str = "its app is installed"


class ReplaceJob(msgspec.Struct, frozen=True):
    """Write it anew so that it waits for its volume."""

    job: MountJob
    by: MountJob
    reason: str = "it did not wait for its volume file"


class RemoveJob(msgspec.Struct, frozen=True):
    """Nothing installed has that volume."""

    job: MountJob
    reason: str = "its app is not installed"


class MissingJob(msgspec.Struct, frozen=True):
    """An installed component has no job: somebody emptied the crontab, or it never got one."""

    container: str
    reason: str = "no job mounts its volume"


JobStep = KeepJob | ReplaceJob | RemoveJob | MissingJob


def plan_jobs(
    jobs: Sequence[MountJob], containers: Collection[str], unread_apps: Collection[str] = ()
) -> tuple[JobStep, ...]:
    """What becomes of each job. `containers`: of all installed components.

    `unread_apps`: installed apps whose components cannot be read now. Whatever might be theirs stays: a
    lost mount line loses the data of an encrypted app at the next boot (D-14).
    """
    steps: list[JobStep] = []
    for job in jobs:
        name = job.container
        if name is None or not (name in containers or _may_be_of(name, unread_apps)):
            steps.append(RemoveJob(job))
        elif job.upgraded() != job:
            steps.append(ReplaceJob(job, job.upgraded()))
        else:
            steps.append(KeepJob(job))
    present = {job.container for job in jobs}
    steps.extend(MissingJob(name) for name in containers if name not in present)
    return tuple(steps)


def is_wiped(jobs: Sequence[MountJob], containers: Collection[str]) -> bool:
    """Whether somebody emptied the crontab of a node with apps."""
    return bool(containers) and not jobs


def _may_be_of(container: str, apps: Collection[str]) -> bool:
    return any(container.endswith(f"_{app}") or container == container_name(app) for app in apps)


def _wait_for(file: str) -> str:
    return f"while [ ! -f {file} ]; do sleep 5; done && "
