"""What a round of the spawner asks for and has done, as values (docs/spec/lifecycle.md §11).

`plan_spawn` yields one of these and is sent the answer named in its first line; None where none is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from trionode.wire.address import with_port

Spec = Mapping[str, Any]


class Instance(msgspec.Struct, frozen=True):
    """A node that runs or installs an app, since when; None counts as the oldest."""

    address: str
    since_ms: int | None = None

    @property
    def age_key(self) -> tuple[bool, int, str]:
        """Oldest first; equal times are told apart by address, alike on all nodes."""
        return self.since_ms is not None, self.since_ms or 0, self.address


def places(rows: Iterable[Instance]) -> list[Instance]:
    """Each node once: one whose rows bear its address with and without the default port counts as of the
    older one."""
    found: dict[str, Instance] = {}
    for row in rows:
        place = with_port(row.address)
        known = found.get(place)
        if known is None or row.age_key < known.age_key:
            found[place] = row
    return list(found.values())


class ExpireApps(msgspec.Struct, frozen=True):
    """Remove what has ended, before anything is chosen."""


class ListCandidates(msgspec.Struct, frozen=True):
    """Answer: tuple[Candidate, ...], by name (`candidates.select_candidates`)."""


class LookRunning(msgspec.Struct, frozen=True):
    """Answer: Sequence[Instance], the location rows of the app."""

    app: str


class LookInstalling(msgspec.Struct, frozen=True):
    """Answer: Sequence[Instance], who announced an install of it."""

    app: str


class CountErrors(msgspec.Struct, frozen=True):
    """Answer: int, how many nodes told that its install failed."""

    app: str
    hash: str


class ReadSpec(msgspec.Struct, frozen=True):
    """Answer: Spec, opened, or None."""

    app: str


class IsVetted(msgspec.Struct, frozen=True):
    """Answer: bool, whether the operator's blocks do not apply to it (`registry.images`)."""

    spec: Spec


class ImageProblem(msgspec.Struct, frozen=True):
    """An image may not run here; `unreachable`: the lists could not be had, which says nothing of it."""

    sentence: str
    unreachable: bool = False


class CheckImages(msgspec.Struct, frozen=True):
    """Answer: ImageProblem or None, by the block lists."""

    spec: Spec


class CheckRequirements(msgspec.Struct, frozen=True):
    """Answer: requirements.Refusal or None (`refusal(..., spawning=True)`)."""

    spec: Spec


class CheckPorts(msgspec.Struct, frozen=True):
    """Answer: str or None: why its ports cannot be used here or are not reachable from outside."""

    spec: Spec


class ProbePeers(msgspec.Struct, frozen=True):
    """Answer: bool, whether the API ports of all these nodes can be reached."""

    addresses: tuple[str, ...]


class VerifyImages(msgspec.Struct, frozen=True):
    """Answer: str or None: why an image cannot be had for this machine."""

    spec: Spec


class Announce(msgspec.Struct, frozen=True):
    """Store and broadcast that this node installs it. Answer: False when nothing could be told."""

    app: str
    address: str


class Wait(msgspec.Struct, frozen=True):
    """Sleep."""

    seconds: float


class Install(msgspec.Struct, frozen=True):
    """Answer: bool, whether it was installed; None: not begun, for a reason that is not the app's."""

    spec: Spec


class RemoveOwn(msgspec.Struct, frozen=True):
    """Remove the app here by force and tell the network; not waited for."""

    app: str
    reason: str


class Publish(msgspec.Struct, frozen=True):
    """Put it on the bus."""

    name: str
    data: Mapping[str, Any]


Need = (
    ExpireApps
    | ListCandidates
    | LookRunning
    | LookInstalling
    | CountErrors
    | ReadSpec
    | IsVetted
    | CheckImages
    | CheckRequirements
    | CheckPorts
    | ProbePeers
    | VerifyImages
    | Announce
    | Wait
    | Install
    | RemoveOwn
    | Publish
)
