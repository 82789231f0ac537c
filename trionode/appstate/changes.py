"""Changes: what a decision wants stored, as plain data (docs/spec/events.md §3-§5, §7).

`AppState.apply` folds a change into memory, `Store.commit` makes a group of them durable. A change names
its whole result, so applying one twice does no harm.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from trionode.appstate.documents import (
    CopyKey,
    EventKey,
    EventRow,
    InstallErrorRow,
    InstallingRow,
    LocationRow,
    SignedCopy,
)
from trionode.appstate.facts import Fact


class PutEvent(msgspec.Struct, frozen=True, gc=False):
    """Insert or replace the event of this key; a newer stored one stays (§3).

    A row without receivedAt keeps the stored one (batch sync, W39). `fact` is the slim form for memory,
    never stored.
    """

    row: EventRow
    fact: Fact


class TouchEvent(msgspec.Struct, frozen=True, gc=False):
    """An older or equal message arrived: only receivedAt of the stored event changes."""

    key: EventKey
    received_at_ms: int


class DeleteEvent(msgspec.Struct, frozen=True, gc=False):
    """The event expired."""

    key: EventKey


class PutLocation(msgspec.Struct, frozen=True, gc=False):
    """Insert or replace the cache row of this row id."""

    row: LocationRow


class DeleteLocation(msgspec.Struct, frozen=True, gc=False):
    """Delete one cache row; name and ip say where memory keeps it."""

    row_id: int
    name: str
    ip: str


class PutInstalling(msgspec.Struct, frozen=True, gc=False):
    """Insert or replace the installing row of (name, ip)."""

    row: InstallingRow


class DeleteInstalling(msgspec.Struct, frozen=True, gc=False):
    """Delete the installing row of (name, ip)."""

    ip: str
    name: str


class PutInstallError(msgspec.Struct, frozen=True, gc=False):
    """Insert or replace the error row of (name, hash, ip)."""

    row: InstallErrorRow


class DeleteInstallError(msgspec.Struct, frozen=True, gc=False):
    """Delete the error row of (name, hash, ip)."""

    ip: str
    name: str
    hash: str


class PutCopy(msgspec.Struct, frozen=True, gc=False):
    """Insert or replace a signed copy."""

    copy: SignedCopy


class DeleteCopy(msgspec.Struct, frozen=True, gc=False):
    """Delete a signed copy."""

    key: CopyKey


Change: TypeAlias = (
    PutEvent
    | TouchEvent
    | DeleteEvent
    | PutLocation
    | DeleteLocation
    | PutInstalling
    | DeleteInstalling
    | PutInstallError
    | DeleteInstallError
    | PutCopy
    | DeleteCopy
)
