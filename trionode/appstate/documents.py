"""The documents of the event log as they are stored (docs/spec/events.md §2, §3).

Signed content is kept as its exact text, because the signature covers that text and a node that syncs
later checks it again. Times are milliseconds since the Unix epoch; None is an absent field.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import JsValue

APPRUNNING = "apprunning"
SIGTERM = "sigterm"
APPREMOVED = "appremoved"
IPCHANGED = "ipchanged"
EVICTED = "evicted"

EventKey: TypeAlias = tuple[str, str, str]
"""(ip, type, dedup key): one stored event each, the newest wins."""

CopyKind: TypeAlias = Literal["installing", "error"]
"""The two collections of signed copies: installing broadcasts and install-error broadcasts."""

CopyKey: TypeAlias = tuple[CopyKind, str, str, str]
"""(kind, ip, name, hash); hash is "" for installing."""


class Signed(msgspec.Struct, frozen=True, gc=False):
    """The envelope fields beside the payload, as received."""

    version: JsValue
    timestamp: JsValue
    pub_key: str
    signature: str

    @classmethod
    def of(cls, envelope: Envelope) -> Signed:
        return cls(envelope.version, envelope.timestamp, envelope.pub_key, envelope.signature)


class EventRow(msgspec.Struct, frozen=True, gc=False):
    """One document of the log. Evictions have `created_at_ms` and neither payload nor envelope."""

    ip: str
    type: str
    dedup_key: str
    expire_at_ms: int
    broadcasted_at_ms: int | None = None
    created_at_ms: int | None = None
    received_at_ms: int | None = None
    data_text: str | None = None
    signed: Signed | None = None

    @property
    def key(self) -> EventKey:
        return (self.ip, self.type, self.dedup_key)

    @property
    def at_ms(self) -> int:
        """When it happened: broadcastedAt, or createdAt for an eviction; 0 when neither is stored."""
        at_ms = self.created_at_ms if self.broadcasted_at_ms is None else self.broadcasted_at_ms
        return 0 if at_ms is None else at_ms


class LocationRow(msgspec.Struct, frozen=True, gc=False):
    """One row of the replayed location cache (§5). `row_id` is ours: (name, ip) need not be unique."""

    row_id: int
    name: str
    hash: str
    ip: str
    broadcasted_at_ms: int
    expire_at_ms: int
    running_since_ms: int | None
    os_uptime: JsValue
    static_ip: JsValue


class InstallingRow(msgspec.Struct, frozen=True, gc=False):
    """An install in progress, by (name, ip)."""

    name: str
    ip: str
    broadcasted_at_ms: int
    expire_at_ms: int


class InstallErrorRow(msgspec.Struct, frozen=True, gc=False):
    """A failed install, by (name, hash, ip)."""

    name: str
    hash: str
    ip: str
    error: str
    broadcasted_at_ms: int
    expire_at_ms: int


class SignedCopy(msgspec.Struct, frozen=True, gc=False):
    """The signed form of an installing or install-error message, kept for nodes that sync later."""

    kind: CopyKind
    ip: str
    name: str
    hash: str
    broadcasted_at_ms: int
    expire_at_ms: int
    received_at_ms: int | None
    data_text: str
    signed: Signed

    @property
    def key(self) -> CopyKey:
        return (self.kind, self.ip, self.name, self.hash)


Row: TypeAlias = EventRow | LocationRow | InstallingRow | InstallErrorRow | SignedCopy
"""Whatever a store gives back at start."""
