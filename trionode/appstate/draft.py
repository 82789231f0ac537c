"""Draft: the guarded writes that all rules are made of (docs/spec/events.md §3, §4.1, §5).

A draft folds every change into the state at once and remembers it for the store, so that the second app
of a list already sees what the first one did. Nothing here can be refused: validation comes before.
"""

from __future__ import annotations

import msgspec

from trionode.appstate.bounds import surplus
from trionode.appstate.changes import (
    Change,
    DeleteCopy,
    DeleteInstalling,
    DeleteLocation,
    PutEvent,
    PutInstalling,
    PutLocation,
    TouchEvent,
)
from trionode.appstate.documents import (
    CopyKey,
    EventKey,
    EventRow,
    InstallingRow,
    LocationRow,
    Signed,
)
from trionode.appstate.facts import Fact
from trionode.appstate.state import AppState
from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import JsValue


class Draft:
    """Collects the changes of one message or one chunk at one moment."""

    def __init__(self, state: AppState, now_ms: int) -> None:
        self.state = state
        self.windows = state.windows
        self.now_ms = now_ms
        self.changes: list[Change] = []

    def do(self, change: Change) -> None:
        """Fold a change and remember it; what it pushes out goes with it."""
        self.state.apply(change)
        self.changes.append(change)
        pushed_out = surplus(self.state, change)
        if pushed_out is not None:
            self.state.apply(pushed_out)
            self.changes.append(pushed_out)

    def take(self) -> list[Change]:
        """Hand out the changes so far and begin a new list."""
        changes, self.changes = self.changes, []
        return changes

    def put_event(
        self, key: EventKey, fact: Fact, envelope: Envelope, received_at_ms: int | None, *, touch: bool = True
    ) -> bool:
        """The guarded upsert of §3: only a strictly newer message replaces the stored one.

        With `touch` a loser still renews receivedAt (gossip); without it nothing of a stored event changes
        and a replaced one keeps its receivedAt (batch sync). Returns whether the message won.
        """
        stored_ms = self.state.event_time(key)
        if stored_ms is not None and fact.at_ms <= stored_ms:
            if touch and received_at_ms is not None:
                self.do(TouchEvent(key, received_at_ms))
            return False
        ip, kind, dedup_key = key
        row = EventRow(
            ip,
            kind,
            dedup_key,
            fact.expire_at_ms,
            broadcasted_at_ms=fact.at_ms,
            received_at_ms=received_at_ms,
            data_text=envelope.data_text,
            signed=Signed.of(envelope),
        )
        self.do(PutEvent(row, fact))
        return True

    def put_location(
        self,
        name: str,
        hash_: str,
        ip: str,
        at_ms: int,
        since_ms: int | None,
        os_uptime: JsValue,
        static_ip: JsValue,
    ) -> bool:
        """The guarded upsert of a cache row; an older message still fills what is absent (§3, §5, W07).

        `since_ms` None leaves a stored runningSince alone. Returns whether a row was made or changed.
        """
        expire_at_ms = at_ms + self.windows.running_ms
        row = self.state.row(name, ip)
        if row is None:
            row_id = self.state.next_row_id()
            new = LocationRow(row_id, name, hash_, ip, at_ms, expire_at_ms, since_ms, os_uptime, static_ip)
        elif at_ms > row.broadcasted_at_ms:
            kept_ms = row.running_since_ms if since_ms is None else since_ms
            new = LocationRow(row.row_id, name, hash_, ip, at_ms, expire_at_ms, kept_ms, os_uptime, static_ip)
        else:
            new = msgspec.structs.replace(
                row,
                running_since_ms=since_ms if row.running_since_ms is None else row.running_since_ms,
                os_uptime=os_uptime if row.os_uptime is None else row.os_uptime,
                static_ip=static_ip if row.static_ip is None else row.static_ip,
            )
            if new == row:
                return False
        self.do(PutLocation(new))
        return True

    def delete_location(self, row: LocationRow) -> None:
        self.do(DeleteLocation(row.row_id, row.name, row.ip))

    def expire_locations(self, ip: str, expire_at_ms: int, older_than_ms: int | None = None) -> None:
        """Set expireAt on the cache rows of an address; with `older_than_ms` only on rows older than it."""
        for row in self.state.rows_at(ip):
            if older_than_ms is None or row.broadcasted_at_ms < older_than_ms:
                self.do(PutLocation(msgspec.structs.replace(row, expire_at_ms=expire_at_ms)))

    def put_installing(self, name: str, ip: str, at_ms: int, expire_at_ms: int) -> bool:
        """Strictly newer only; returns whether the row was written."""
        row = self.state.installing_row(name, ip)
        if row is not None and row.broadcasted_at_ms >= at_ms:
            return False
        self.do(PutInstalling(InstallingRow(name, ip, at_ms, expire_at_ms)))
        return True

    def forget_installing(self, name: str, ip: str) -> None:
        """Delete the installing row of (name, ip) and its signed copy."""
        if self.state.installing_row(name, ip) is not None:
            self.do(DeleteInstalling(ip, name))
        key: CopyKey = ("installing", ip, name, "")
        if self.state.has_copy(key):
            self.do(DeleteCopy(key))

    def forget_all_installing(self, ip: str) -> None:
        """Delete all installing rows of an address and their signed copies."""
        for row in self.state.installing_at(ip):
            self.do(DeleteInstalling(ip, row.name))
        for key in self.state.copies_at(ip):
            if key[0] == "installing":
                self.do(DeleteCopy(key))
