"""What a machine can bear, as plain sums (docs/spec/lifecycle.md §11, §13, §19).

The pauses of the spawner, the CPU burst of a container, and which apps a machine has no room for.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from trionode.config.tree import ResourceSettings, SpawnerSettings


class Pauses(msgspec.Struct, frozen=True):
    """Pauses between two rounds of the spawner."""

    short_s: float
    long_s: float


def spawn_pauses(settings: SpawnerSettings, *, enterprise_node: bool, candidates: int) -> Pauses:
    """The more there is to choose from, the sooner the next round."""
    if enterprise_node:
        pauses = Pauses(settings.enterprise_short_delay_s, settings.enterprise_long_delay_s)
    elif candidates > 1:
        pauses = Pauses(settings.busy_delay_s, settings.busy_delay_s)
    else:
        pauses = Pauses(settings.short_delay_s, settings.long_delay_s)
    factor = settings.delay_factor
    return Pauses(pauses.short_s * factor, pauses.long_s * factor)


class CpuBurst(msgspec.Struct, frozen=True):
    """The CFS numbers of a container, in microseconds."""

    period_us: int
    quota_us: int
    burst_us: int


def cpu_burst(settings: ResourceSettings, *, cores: float, host_cpus: int) -> CpuBurst:
    """A container may burst to twice its share, as far as the host has cores to spare."""
    period_us = settings.cpu_burst_period_us
    quota_us = round(cores * period_us)
    spare_us = (host_cpus - settings.cpu_burst_reserved_cores) * period_us - quota_us
    return CpuBurst(period_us, quota_us, max(0, min(quota_us, spare_us)))


class Machine(msgspec.Struct, frozen=True):
    """What the machine has: cores, memory in MiB, disk in GB."""

    cores: float
    ram_mb: float
    ssd_gb: float


class Need(msgspec.Struct, frozen=True):
    """What an installed app takes in all its components, and since which block it is there."""

    name: str
    height: int
    cpu: float
    ram_mb: float
    hdd_gb: float


def apps_without_room(machine: Machine, needs: Iterable[Need], settings: ResourceSettings) -> list[str]:
    """The apps to remove: the oldest stay, who exceeds what is left alone or together goes.

    An app that goes takes nothing. Without a known disk nobody is judged.
    """
    if machine.ssd_gb <= 0:
        return []
    room = (
        machine.cores * 10 - settings.locked_cpu_tenths,
        machine.ram_mb - settings.locked_ram_mb,
        machine.ssd_gb * settings.usable_hdd_share - settings.locked_hdd_gb - settings.locked_extra_hdd_gb,
    )
    extra_gb = settings.component_hdd_gb + settings.component_swap_gb
    taken = (0.0, 0.0, 0.0)
    without: list[str] = []
    for need in sorted(needs, key=lambda need: need.height):
        wanted = (need.cpu * 10, need.ram_mb, need.hdd_gb + extra_gb)
        together = (taken[0] + wanted[0], taken[1] + wanted[1], taken[2] + wanted[2])
        if any(sum_ > most for sum_, most in zip(together, room, strict=True)):
            without.append(need.name)
        else:
            taken = together
    return without
