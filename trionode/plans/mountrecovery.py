"""Which volumes have to be mounted again, and which containers hold on to a former mount.

Facts: docs/spec/lifecycle.md §19, mount recovery. A container binds what it found at its start: when the
volume was mounted later, it writes into the folder below the mount, and its data is not where it belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from trionode.lifecycle.local import InstalledApp
from trionode.lifecycle.names import container_name


class VolumeFacts(msgspec.Struct, frozen=True):
    """One volume. `has_file`: its image file is there. `mounted_ms`: since when, if known."""

    is_mounted: bool
    has_file: bool = True
    mounted_ms: int | None = None


class RunningFacts(msgspec.Struct, frozen=True):
    """A running container: when it was started, and the folders of the machine it binds."""

    name: str
    started_ms: int | None
    sources: tuple[str, ...] = ()


class MountVolume(msgspec.Struct, frozen=True):
    """Mount it, and have it mounted after the next reboot."""

    app: str
    volume: str
    reason: str = "its volume is not mounted"


class RestartContainer(msgspec.Struct, frozen=True):
    """Stop and start it, so that it binds what is mounted now."""

    app: str
    identifier: str
    reason: str


def plan_mounts(
    installed: Iterable[InstalledApp], volumes: Mapping[str, VolumeFacts]
) -> tuple[MountVolume, ...]:
    """Every volume of an installed app that is there and not mounted, in order of the apps."""
    return tuple(
        MountVolume(app.name, name)
        for app in installed
        for part in app.components
        if (volume := volumes.get(name := container_name(part.identifier))) is not None
        and volume.has_file
        and not volume.is_mounted
    )


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
