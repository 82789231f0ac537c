"""What is left behind: the machine and the engine before and after, as lists that can be compared.

Counts containers, networks, volumes, images if wanted, firewall rules, and, of the watched folders, mounts,
loop devices, lines of root's crontab, systemd mount units and (where asked) files: other tests, and nodes of
other tests, work on the same machine at the same time.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import firewall
import msgspec
from engineapi import EngineApi

OF_ENGINES = re.compile(
    r"\btt[0-9a-f]{8}\b"
    r"| :"
    r"|-A (PREROUTING|OUTPUT) .*--dst-type LOCAL -j DOCKER$"
    r"|-A FORWARD -j DOCKER[A-Z0-9-]*$"
    r"|-A DOCKER[A-Z0-9-]* -j RETURN$"
)
"""Chains, what leads to them, and the bridges of test engines: other engines come and go meanwhile."""
SETTLES_WITHIN_S = 60.0
UNITS = Path("/etc/systemd/system")


class Snapshot(msgspec.Struct, frozen=True):
    """Lines of what there is, by kind."""

    found: dict[str, list[str]]


def snapshot(
    api: EngineApi, *, folders: Sequence[Path] = (), files: Sequence[Path] = (), images: bool = False
) -> Snapshot:
    """Looks. `folders`: where mounts, and what makes them, count; `files`: paths whose content counts."""
    found = {
        "container": [f"{row['Names'][0]} {row['Id'][:12]}" for row in api.containers()],
        "network": [f"{row['Name']} {row['Id'][:12]}" for row in api.networks()],
        "volume": [row["Name"] for row in api.volumes()],
        "mount": list(_mounts(folders)),
        "loop device": list(_loops(folders)),
        "firewall rule": _rules(),
        "crontab line": [line for line in _crontab() if _names(line, folders)],
        "mount unit": list(_units(folders)),
        "file": [line for path in files for line in _files(path)],
    }
    if images:
        found["image"] = sorted(api.image_tags())
    return Snapshot(found)


def difference(before: Snapshot, after: Snapshot) -> list[str]:
    """`left: KIND WHAT` and `gone: KIND WHAT` for everything that is not as before; empty is good."""
    lines = []
    for kind in before.found:
        old, new = Counter(before.found[kind]), Counter(after.found.get(kind, []))
        lines += [f"left: {kind} {what}" for what in (new - old).elements()]
        if kind != "firewall rule":
            # Another engine that starts on this machine empties the chains they share: no fault of ours.
            lines += [f"gone: {kind} {what}" for what in (old - new).elements()]
    return lines


class LeakWatch:
    """A snapshot at its making; `difference()` compares with now."""

    def __init__(self, api: EngineApi, *, folders: Iterable[Path] = (), images: bool = False) -> None:
        self._api = api
        self._folders = list(folders)
        self._files: list[Path] = []
        self._images = images
        self.before = self._look()

    def files(self, *paths: Path) -> None:
        """From here on the content of these files or folders counts too (they are taken as they are now)."""
        self._files += paths
        self.before.found["file"].extend(line for path in paths for line in _files(path))

    def start_over(self) -> None:
        """What is there now is meant to be there."""
        self.before = self._look()

    def difference(self) -> list[str]:
        return difference(self.before, self._look())

    def settled(self) -> list[str]:
        """The difference when it stays: the kernel lets go of a loop device a little after its mount."""
        deadline = time.monotonic() + SETTLES_WITHIN_S
        while left := self.difference():
            if time.monotonic() > deadline or not all(line.startswith("left: loop") for line in left):
                break
            time.sleep(0.05)
        return left

    def clean_up(self) -> None:
        """Removes what came since, so that the next test does not find it: it was reported already."""
        known = {kind: set(lines) for kind, lines in self.before.found.items()}
        for row in self._api.containers():
            if f"{row['Names'][0]} {row['Id'][:12]}" not in known["container"]:
                self._api.remove(row["Id"])
        for row in self._api.networks():
            if f"{row['Name']} {row['Id'][:12]}" not in known["network"]:
                self._api.remove_network(row["Id"])
        for row in self._api.volumes():
            if row["Name"] not in known["volume"]:
                self._api.remove_volume(row["Name"])
        for line in reversed([line for line in _mounts(self._folders) if line not in known["mount"]]):
            subprocess.run(["umount", "--lazy", line.split()[1]], capture_output=True, check=False)
        for line in _loops(self._folders):
            if line not in known["loop device"]:
                subprocess.run(["losetup", "-d", f"/dev/{line.split()[0]}"], capture_output=True, check=False)
        firewall.remove(line for line in _rules() if line not in known["firewall rule"])

    def _look(self) -> Snapshot:
        return snapshot(self._api, folders=self._folders, files=self._files, images=self._images)


def _rules() -> list[str]:
    return [line for line in firewall.rules() if not OF_ENGINES.search(line)]


def _under(path: str, folders: Sequence[Path]) -> bool:
    return any(path == str(folder) or path.startswith(f"{folder}/") for folder in folders)


def _mounts(folders: Sequence[Path]) -> Iterable[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        source, point, kind = line.split()[:3]
        # The name of a container's network namespace changes with each start; the container itself counts.
        if (_under(source, folders) or _under(point, folders)) and "/netns/" not in point:
            yield f"{source} {point} {kind}"


def _loops(folders: Sequence[Path]) -> Iterable[str]:
    for entry in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        try:
            backing = entry.read_text().strip()
        except OSError:
            continue  # detached while we looked
        if _under(backing, folders):
            yield f"{entry.parts[3]} {backing}"


def _crontab() -> list[str]:
    try:
        listed = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return listed.stdout.splitlines() if listed.returncode == 0 else []


def _names(text: str, folders: Sequence[Path]) -> bool:
    """Whether a path beneath one of the folders is part of it."""
    return any(f"{folder}/" in text for folder in folders)


def _units(folders: Sequence[Path]) -> Iterable[str]:
    for path in sorted(UNITS.glob("**/*.mount")):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue  # it was taken away while we looked
        if _names(text, folders):
            yield str(path)


def _files(path: Path) -> Iterable[str]:
    for found in sorted([path, *path.rglob("*")]) if path.exists() else []:
        if found.is_file():
            yield f"{found} {hashlib.sha256(found.read_bytes()).hexdigest()[:12]}"
        elif found.is_dir():
            yield f"{found}/"
