"""Troubles of others: what goes wrong with an app and says nothing of the app (docs/differences.md, "Apps").

The machine, its engine and its disk, the registry its image comes from, the storage its owner keeps: what is
away or full will be back. An app is never removed for it, nor its volume; it is tried again.
"""

from __future__ import annotations

from trionode.containers.actions import NotNow
from trionode.containers.disk import DiskError, DiskFull, FirewallError
from trionode.containers.engine import EngineError, EngineFull, EngineUnreachable
from trionode.containers.images.registry import ImageError, ImageFault
from trionode.errors import HostError, StoreError, TrionodeError
from trionode.hosting.port import TooSlow
from trionode.plans.problem import NotKnownYet, PlanError, WrongAnswer


class NotInTime(HostError):
    """A step took longer than it may."""

    code = "not_in_time"


class PullFailed(EngineError):
    """The engine did not get an image that its registry has: most often the registry, or the way to it."""

    code = "pull"


class StorageError(HostError):
    """What an owner keeps elsewhere could not be fetched. Neither query nor answer is named."""

    code = "storage"


class StorageAway(StorageError):
    """It did not answer, or only that it has trouble: it may say what it has to soon."""

    code = "storage_away"


_FAR = (PullFailed, StorageAway)
_HERE = (
    NotNow,
    EngineUnreachable,
    EngineFull,
    DiskError,
    FirewallError,
    StoreError,
    NotInTime,
    TooSlow,
    NotKnownYet,
)


def is_far(error: Exception) -> bool:
    """Whether somebody on the internet has the trouble, who must not be asked again every minute."""
    if isinstance(error, NotNow):
        return error.far
    return isinstance(error, _FAR) or (isinstance(error, ImageError) and error.says_nothing_of_the_image)


def is_passing(error: Exception) -> bool:
    """Whether the same may go well later, whatever the app is."""
    return isinstance(error, _HERE) or is_far(error)


def told_to_all(error: TrionodeError, step: str) -> str:
    """What the network is told of an install that failed: where and of what kind, for every node keeps it.

    Words of engines, storages, registries and this machine are for those who may read its log.
    """
    if isinstance(error, PlanError) and not isinstance(error, WrongAnswer):
        return f"{step}: {error.message}"
    return f"{step}: {_IMAGES[error.code] if isinstance(error, ImageError) else _kind(error)}"


_IMAGES = {
    ImageFault.UNREACHABLE: "the registry of the image cannot be reached",
    ImageFault.RATE_LIMITED: "the registry of the image limits how often it is asked",
    ImageFault.UNAUTHORIZED: "the registry does not give out the image",
    ImageFault.MISSING: "the registry has no such image",
    ImageFault.TOO_LARGE: "the image is too large",
    ImageFault.WRONG_ARCHITECTURE: "the image is not for this architecture",
    ImageFault.BAD_ANSWER: "the registry of the image cannot be understood",
    ImageFault.BAD_NAME: "the image has a name that cannot be used",
}


def _kind(error: TrionodeError) -> str:
    if isinstance(error, EngineFull | DiskFull):
        return "this machine has no space left"
    if isinstance(error, EngineError):
        return "the container engine refused"
    if isinstance(error, StorageError | WrongAnswer):
        return "what its owner keeps elsewhere could not be fetched"
    return f"this node has trouble ({error.code})"
