"""`containerData`: which folders and files of its volume a container sees, and where.

Facts: docs/spec/lifecycle.md §13. The first entry is the container's own folder, with the file sync flags
before it; further ones name own folders (`m:`), own files (`f:`), and what belongs to a component listed
earlier (`N:`, `c:`, `cf:`). Flags are only those before the first path (D-2).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence

import msgspec

from trionode.lifecycle.names import container_name, true_flags
from trionode.plans.problem import refuse
from trionode.plans.texts import odd_in

OWN_FOLDER = "appdata"
RESERVED = frozenset({OWN_FOLDER, "backup", "."})
BAD_IN_NAMES = frozenset('/<>:"|?*')
LONGEST_NAME = 255


class MountKind(enum.Enum):
    """What is mounted."""

    PRIMARY = "primary"
    FOLDER = "directory"
    FILE = "file"
    PART_PRIMARY = "component_primary"
    PART_FOLDER = "component_directory"
    PART_FILE = "component_file"


class _Form(msgspec.Struct, frozen=True):
    """How an entry is written: how many pieces, and whether it names a component."""

    kind: MountKind
    pieces: int


_FORMS = {
    "m": _Form(MountKind.FOLDER, 3),
    "f": _Form(MountKind.FILE, 3),
    "c": _Form(MountKind.PART_FOLDER, 4),
    "cf": _Form(MountKind.PART_FILE, 4),
}
LONGEST_PATH = 4095
"""Bytes, as for names: what a file system takes."""
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
_LEADING_NUMBER = re.compile(r"\s*\+?([0-9]{1,9})")
"""Component numbers are read up to the first character that is no digit, as the network does."""


class Mount(msgspec.Struct, frozen=True):
    """One folder or file of a volume and its place in the container.

    `component`: the number of the component whose volume it is, None for the own one.
    """

    kind: MountKind
    name: str
    target: str
    component: int | None = None

    @property
    def is_file(self) -> bool:
        return self.kind in (MountKind.FILE, MountKind.PART_FILE)


class ContainerData(msgspec.Struct, frozen=True):
    """All mounts, the own folder first, and the true flags."""

    mounts: tuple[Mount, ...]
    flags: frozenset[str]


class Bind(msgspec.Struct, frozen=True):
    """A path of this machine and its place in the container."""

    source: str
    target: str


def parse_container_data(text: str) -> ContainerData:
    """Read a `containerData`. Raises PlanError with a sentence about what is wrong."""
    entries = [entry.strip() for entry in text.split("|")]
    mounts = [_own_folder(entries[0]), *(_mount(entry) for entry in entries[1:])]
    _must_differ([mount.target for mount in mounts], "path in the container")
    _must_differ([mount.name for mount in mounts if mount.component is None], "name in the volume")
    return ContainerData(tuple(mounts), true_flags(text))


def binds(data: ContainerData, identifiers: Sequence[str], own: int, apps_dir: str) -> tuple[Bind, ...]:
    """The mounts of the component number `own`, as paths below `apps_dir`.

    `identifiers`: of all components in order. Only components listed earlier may be named: their volumes
    are there when this one is created.
    """
    found = []
    for mount in data.mounts:
        number = own if mount.component is None else mount.component
        if mount.component is not None and number >= own:
            refuse(f"containerData names component {number}, which is not listed before its own.")
        folder = f"{apps_dir.rstrip('/')}/{container_name(identifiers[number])}"
        found.append(Bind(f"{folder}/{mount.name}", mount.target))
    return tuple(found)


def _own_folder(entry: str) -> Mount:
    pieces = entry.split(":")
    if len(pieces) > 2 or (len(pieces) == 2 and pieces[0].startswith("/")):
        refuse(f"containerData begins with {entry!r}: at most flags, one colon and a path are allowed.")
    return Mount(MountKind.PRIMARY, OWN_FOLDER, _target(pieces[-1]))


def _mount(entry: str) -> Mount:
    head, *rest = entry.split(":")
    if _WHOLE_NUMBER.fullmatch(head) and len(rest) == 1:
        return Mount(MountKind.PART_PRIMARY, OWN_FOLDER, _target(rest[0]), int(head))
    form = _FORMS.get(head)
    if form is None or len(rest) + 1 != form.pieces:
        refuse(f"containerData has an entry {entry!r} of no known form.")
    component = _component(rest[0]) if form.pieces == 4 else None
    return Mount(form.kind, _name(rest[-2]), _target(rest[-1]), component)


def _component(text: str) -> int:
    found = _LEADING_NUMBER.match(text)
    if found is None:
        refuse(f"containerData names the component {text!r}, which is no number.")
    return int(found.group(1))


def _target(path: str) -> str:
    if not path.startswith("/") or ".." in path:
        refuse(f"containerData has the path {path!r}: paths begin with / and have no '..'.")
    if _bytes(path) > LONGEST_PATH:
        refuse(f"containerData has a path of more than {LONGEST_PATH} bytes.")
    return path


def _name(name: str) -> str:
    odd = not name or name in RESERVED or ".." in name or BAD_IN_NAMES & set(name)
    if odd or _bytes(name) > LONGEST_NAME:
        refuse(f"containerData has the name {name!r}, which cannot be a folder or file of a volume.")
    return name


def _bytes(text: str) -> int:
    """What a text takes on a disk. One that has no place there at all is refused."""
    if odd := odd_in(text):
        refuse(f"containerData has {odd} in it.")
    return len(text.encode())


def _must_differ(values: Sequence[str], what: str) -> None:
    if len(set(values)) != len(values):
        refuse(f"containerData uses the same {what} twice.")
