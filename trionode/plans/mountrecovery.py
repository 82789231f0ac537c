"""Which volumes have to be mounted, now and after a reboot, and which containers bind a former mount.

Facts: docs/spec/lifecycle.md §19, mount recovery. A container binds what it found at its start: when the
volume was mounted later, it writes into the folder below the mount, and its data is not where it belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from trionode.lifecycle.local import InstalledApp
from trionode.lifecycle.names import container_name, containers_of


class VolumeFacts(msgspec.Struct, frozen=True):
    """One volume. `has_file`: its image file is there. `mounted_ms`: since when, if known.

    `survives_reboot`: the machine will mount it by itself, in the form that waits for its disk.
    """

    is_mounted: bool
    has_file: bool = True
    mounted_ms: int | None = None
    survives_reboot: bool = True


class RunningFacts(msgspec.Struct, frozen=True):
    """A running container: when it was started, and the folders of the machine it binds."""

    name: str
    started_ms: int | None
    sources: tuple[str, ...] = ()


class MountVolume(msgspec.Struct, frozen=True):
    """Mount it, and have it mounted after the next reboot. `vanished`: it should have been mounted."""

    app: str
    volume: str
    reason: str = "its volume is not mounted"
    vanished: bool = True


class ForgetVolume(msgspec.Struct, frozen=True):
    """Have it mounted no more after a reboot; its file stays."""

    volume: str
    reason: str = "its app is not installed"


class RestartContainer(msgspec.Struct, frozen=True):
    """Stop and start it, so that it binds what is mounted now."""

    app: str
    identifier: str
    reason: str


def plan_mounts(
    installed: Iterable[InstalledApp], volumes: Mapping[str, VolumeFacts]
) -> tuple[MountVolume, ...]:
    """Every volume of an installed app that is not mounted, or will not be after a reboot, app by app."""
    found = []
    for app in installed:
        for name in (container_name(part.identifier) for part in app.components):
            volume = volumes.get(name)
            if volume is None or not volume.has_file:
                continue
            if not volume.is_mounted:
                found.append(MountVolume(app.name, name))
            elif not volume.survives_reboot:
                reason = "it would not be mounted after a reboot"
                found.append(MountVolume(app.name, name, reason, vanished=False))
    return tuple(found)


def plan_forgetting(
    installed: Iterable[InstalledApp], volumes: Mapping[str, VolumeFacts]
) -> tuple[ForgetVolume, ...]:
    """Volumes of no installed app that the machine would mount at boot.

    While an app cannot be opened, whatever may be its volume is left alone: a lost line loses the data of an
    encrypted app at the next boot (D-14).
    """
    apps = tuple(installed)
    known = {container_name(part.identifier) for app in apps for part in app.components}
    unread = tuple(app.name for app in apps if not app.components)
    return tuple(
        ForgetVolume(name)
        for name, volume in volumes.items()
        if volume.survives_reboot and name not in known and not _may_be_of(name, unread)
    )


def _may_be_of(container: str, apps: Sequence[str]) -> bool:
    """Whether a container's name allows that it is of one of these apps."""
    return any(containers_of(app, (container,)) for app in apps)


def is_wiped(installed: Iterable[InstalledApp], volumes: Mapping[str, VolumeFacts]) -> bool:
    """Whether somebody took away everything that mounts the volumes of installed apps at boot."""
    names = [container_name(part.identifier) for app in installed for part in app.components]
    found = [volumes[name] for name in names if name in volumes and volumes[name].has_file]
    return bool(found) and not any(volume.survives_reboot for volume in found)


def plan_restarts(
    installed: Iterable[InstalledApp],
    running: Sequence[RunningFacts],
    volumes: Mapping[str, VolumeFacts],
    apps_dir: str,
) -> tuple[RestartContainer, ...]:
    """The running containers of installed apps that were started before what they bind was mounted."""
    facts = {container.name: container for container in running}
    found = []
    for app in installed:
        for part in app.components:
            container = facts.get(container_name(part.identifier))
            reason = None if container is None else _stale(container, volumes, apps_dir)
            if reason is not None:
                found.append(RestartContainer(app.name, part.identifier, reason))
    return tuple(found)


def _stale(container: RunningFacts, volumes: Mapping[str, VolumeFacts], apps_dir: str) -> str | None:
    for source in container.sources:
        name = (
            source.removeprefix(f"{apps_dir}/").partition("/")[0] if source.startswith(f"{apps_dir}/") else ""
        )
        volume = volumes.get(name)
        if volume is None or not volume.is_mounted:
            continue  # without a mount there is nothing that a restart would find
        if container.started_ms is None or volume.mounted_ms is None:
            continue
        if volume.mounted_ms > container.started_ms:
            return f"{name} was mounted after its start"
    return None
