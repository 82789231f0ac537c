"""Spare CPU for a container: the burst of its control group (docs/spec/lifecycle.md §13, start).

Container engines put a container in one of two places, in the second or the first form of control groups.
"""

from __future__ import annotations

import re
from pathlib import Path

from trionode.containers.disk import DiskError

CGROUPS = "/sys/fs/cgroup"
_CONTAINER_ID = re.compile(r"[0-9a-f]{12,64}")


def is_container_id(text: str) -> bool:
    """Whether it may become part of a path."""
    return _CONTAINER_ID.fullmatch(text) is not None


def lend_cpu(cgroups: str, container_id: str, burst_us: int) -> None:
    """Allow it to save up so many microseconds. Raises DiskError where there is no such thing, OSError."""
    places = (f"system.slice/docker-{container_id}.scope", f"docker/{container_id}")
    files = [Path(cgroups, place, "cpu.max.burst") for place in places]
    files += [Path(cgroups, "cpu", place, "cpu.cfs_burst_us") for place in places]
    file = next((file for file in files if file.exists()), None)
    if file is None:
        raise DiskError(
            "this machine cannot lend spare CPU to a container",
            step="burst",
            remedy="none is needed: it runs with its share; a kernel from 5.14 on has it",
        )
    # the control group takes a burst up to the quota and refuses more
    file.write_text(str(burst_us))
