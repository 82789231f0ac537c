"""Troubles of others: what goes wrong with an app and says nothing of the app (docs/differences.md, "Apps").

The machine, its engine and its disk, the registry its image comes from, the storage its owner keeps: what is
away or full will be back. An app is never removed for it, nor its volume; it is tried again.
"""

from __future__ import annotations

from trionode.containers.actions import NotNow
from trionode.containers.disk import DiskError, FirewallError
from trionode.containers.engine import EngineError, EngineFull, EngineUnreachable
from trionode.containers.images.registry import ImageError
from trionode.errors import HostError, StoreError
from trionode.hosting.port import TooSlow
from trionode.plans.problem import NotKnownYet


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
