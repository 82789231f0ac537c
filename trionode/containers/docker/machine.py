"""What the Docker adapter has to know of the machine itself (docs/spec/lifecycle.md §13).

Two facts the engine does not tell: whether its folder has project quotas, and whether containers may be
given as many open files as they are to get. On a machine without CAP_SYS_RESOURCE (inside of a container,
say) they cannot get more than its own limit, and would not start at all.
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

from trionode.plans.createoptions import OPEN_FILES

MOUNTS = Path("/proc/mounts")
STATUS = Path("/proc/self/status")
CAP_SYS_RESOURCE = 24


def folder_has_project_quota(folder: str) -> bool:
    """Whether a folder of this machine is on a file system with project quotas."""
    return MOUNTS.exists() and has_project_quota(MOUNTS.read_text(), folder)


def open_files_here() -> int:
    """How many files a container may have open on this machine."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return open_files(STATUS.read_text() if STATUS.exists() else "", hard)


def has_project_quota(mounts: str, folder: str) -> bool:
    """The same for any machine. `mounts`: as in /proc/mounts."""
    best, options = "", ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        point = fields[1].rstrip("/") + "/"
        if f"{folder.rstrip('/')}/".startswith(point) and len(point) >= len(best):
            best, options = point, fields[3]
    return bool({"prjquota", "pquota"} & set(options.split(",")))


def open_files(status: str, hard: int) -> int:
    """The same for any machine. `status`: as in /proc/self/status; `hard`: limit of this process, -1 none."""
    if hard < 0 or hard >= OPEN_FILES:
        return OPEN_FILES
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapBnd":
            return OPEN_FILES if int(value, 16) >> CAP_SYS_RESOURCE & 1 else hard
    return OPEN_FILES


def limit_open_files(body: dict[str, Any], most: int) -> dict[str, Any]:
    """A create body whose limits of open files are at most `most`."""
    host = body["HostConfig"]
    limits = [
        limit | {"Soft": min(limit["Soft"], most), "Hard": min(limit["Hard"], most)}
        if limit["Name"] == "nofile"
        else limit
        for limit in host["Ulimits"]
    ]
    return body | {"HostConfig": host | {"Ulimits": limits}}
