"""Judge one chunk of state sync (docs/spec/events.md §5, §10.3, §13.5-8).

Records come verified (wire.md §9.5, §11); evictions are unsigned by nature. What a record says it is
must be what its signed payload is (§13.8), and a payload that gossip would refuse is refused here too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Literal, TypeAlias

import msgspec

from trionode.appstate.changes import Change
from trionode.appstate.decision import Published, Refusal, SyncOutcome
from trionode.appstate.documents import APPREMOVED, APPRUNNING, EVICTED, IPCHANGED, SIGTERM
from trionode.appstate.draft import Draft
from trionode.appstate.installs import put_copy, put_error
from trionode.appstate.messages import (
    INSTALL_ERROR,
    INSTALLING,
    IP_CHANGED,
    NODE_SIGTERM,
    REMOVED,
    RUNNING,
    InstallError,
    Installing,
    IpChanged,
    NodeSigterm,
    Removed,
    Running,
    check_signed,
    date_ms,
    read_message,
    stored_text,
)
from trionode.appstate.running import put_running_event
from trionode.appstate.state import AppState
from trionode.appstate.withdrawals import (
    drop_locations,
    put_evicted_event,
    put_ip_changed_event,
    put_removed_event,
    put_sigterm_event,
    remove_location,
)
from trionode.wire.envelope import Envelope
from trionode.wire.syncmsg import SyncRecord, iso_ms

SyncKind: TypeAlias = Literal["apprunning", "appinstalling", "apperrors"]
"""The three chunks of the event log (0x21-0x23)."""

_PAYLOAD_OF = {
    APPRUNNING: RUNNING,
    SIGTERM: NODE_SIGTERM,
    APPREMOVED: REMOVED,
    IPCHANGED: IP_CHANGED,
    "appinstalling": INSTALLING,
    "apperrors": INSTALL_ERROR,
}


class BatchRecord(msgspec.Struct, frozen=True):
    """One verified record of a chunk. `type` is the outer type ("" in installing and error chunks).

    `envelope` is None for an eviction only, which has `ip` and `created_at_ms` instead.
    """

    type: str
    envelope: Envelope | None
    ip: str = ""
    created_at_ms: int | None = None
    received_at_ms: int | None = None

    @classmethod
    def of(cls, record: SyncRecord) -> BatchRecord:
        """Take what the rules need out of a received item (wire.md §11)."""
        item = record.item
        kind, ip = item.get("type"), item.get("ip")
        return cls(
            kind if isinstance(kind, str) else "",
            record.envelope,
            ip if isinstance(ip, str) else "",
            iso_ms(item.get("createdAt")),
            iso_ms(item.get("receivedAt")),
        )


def judge_chunk(
    state: AppState, kind: SyncKind, records: Sequence[BatchRecord], now_ms: int, peer: str
) -> SyncOutcome:
    """Fold one chunk in at once. `state.advance(now_ms)` comes first."""
    steps = chunk_steps(state, kind, records, now_ms, peer, slice_records=len(records) + 1)
    changes: list[Change] = []
    while True:
        try:
            changes += next(steps)
        except StopIteration as end:
            outcome: SyncOutcome = end.value
            return msgspec.structs.replace(outcome, changes=tuple(changes))


def chunk_steps(
    state: AppState,
    kind: SyncKind,
    records: Sequence[BatchRecord],
    now_ms: int,
    peer: str,
    *,
    slice_records: int,
) -> Generator[Sequence[Change], None, SyncOutcome]:
    """Fold one chunk in, in order, and give way after every `slice_records` records.

    Yields the changes of each slice: they have to be queued for the store before anything else changes
    the state. More records than allowed refuse the whole chunk, which then does not count as done either.
    """
    if len(records) > state.windows.max_sync_records:
        return SyncOutcome(accepted=False, refused=((len(records), "validate", "too_many_records"),))
    draft = Draft(state, now_ms)
    chunk = _Chunk(draft)
    parts = [chunk.installs(kind, records)]
    if kind == "apprunning":
        parts = [chunk.running(records), chunk.prune(), chunk.evictions(records), chunk.others(records)]
    for part in parts:
        for position, _ in enumerate(part, start=1):
            if position % slice_records == 0:
                yield draft.take()
    yield draft.take()
    published: tuple[Published, ...] = ()
    if chunk.verified:
        news = {"syncType": kind, "peer": peer, "verified": chunk.verified, "stored": chunk.stored}
        published = (("sync:chunkVerified", news),)
    return SyncOutcome(
        accepted=True,
        verified=chunk.verified,
        stored=chunk.stored,
        refused=tuple(chunk.refused),
        published=published,
    )


class _Chunk:
    """The work on one chunk: counts and refusals by position in the chunk. Each part yields per record."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.verified = 0
        self.stored = 0
        self.refused: list[tuple[int, str, str]] = []
        self._newest: dict[str, Running] = {}

    def _read(
        self, position: int, record: BatchRecord, kind: str
    ) -> Running | Removed | IpChanged | NodeSigterm | Installing | InstallError | None:
        """The validated payload, if it is of the type the record claims; else the refusal is noted."""
        envelope = record.envelope
        try:
            if envelope is None:
                raise Refusal("validate", "no_envelope")
            if envelope.type != _PAYLOAD_OF[kind]:
                raise Refusal("validate", "type_mismatch")
            check_signed(envelope)
            return read_message(envelope.data, self.draft.now_ms, self.draft.windows)
        except Refusal as refusal:
            self.refused.append((position, refusal.stop, refusal.reason))
            return None

    def running(self, records: Sequence[BatchRecord]) -> Iterator[None]:
        """Running records: guarded events and rows (§5)."""
        for position, record in enumerate(records):
            if record.type == APPRUNNING and record.envelope is not None:
                message = self._read(position, record, APPRUNNING)
                if isinstance(message, Running):
                    self._one_running(position, message, record.envelope)
                yield

    def _one_running(self, position: int, message: Running, envelope: Envelope) -> None:
        self.verified += 1
        if message.at_ms + self.draft.windows.running_ms < self.draft.now_ms:
            self.refused.append((position, "age", "broadcast_stale"))
            return
        self.stored += 1
        put_running_event(self.draft, message, envelope, sync=True)
        self._locations(message)
        if message.version == 2 and message.apps:
            last = self._newest.get(message.ip)
            if last is None or message.at_ms > last.at_ms:
                self._newest[message.ip] = message

    def prune(self) -> Iterator[None]:
        """The newest list of an address in this chunk deletes rows that are not in it (W39, W66, W67)."""
        for ip, message in self._newest.items():
            names = {app.name for app in message.apps}
            for row in self.draft.state.rows_at(ip):
                if row.name not in names and row.broadcasted_at_ms <= message.at_ms:
                    self.draft.delete_location(row)
            yield

    def _locations(self, message: Running) -> None:
        data = message.data
        message_since = data.get("runningSince")
        for app in message.apps:
            since = app.running_since if message_since is None else message_since
            self.draft.put_location(
                app.name,
                app.hash,
                message.ip,
                message.at_ms,
                date_ms(since),
                data.get("osUptime"),
                data.get("staticIp"),
            )

    def evictions(self, records: Sequence[BatchRecord]) -> Iterator[None]:
        """Keep the sender's time if it is earlier, spare rows that are newer than it (§13.6)."""
        for position, record in enumerate(records):
            if record.type == EVICTED:
                try:
                    self._one_eviction(record)
                except Refusal as refusal:
                    self.refused.append((position, refusal.stop, refusal.reason))
                yield

    def _one_eviction(self, record: BatchRecord) -> None:
        draft = self.draft
        if not record.ip or record.created_at_ms is None:
            raise Refusal("validate", "eviction_without_ip_or_time")
        stored_text(record.ip, "ip")
        created_at_ms = min(record.created_at_ms, draft.now_ms)
        if created_at_ms + draft.windows.evicted_ms < draft.now_ms:
            raise Refusal("age", "eviction_stale")
        stored_ms = draft.state.event_time((record.ip, EVICTED, EVICTED))
        if stored_ms is not None and created_at_ms <= stored_ms:
            raise Refusal("guard", "not_newer")
        put_evicted_event(draft, record.ip, created_at_ms)
        drop_locations(draft, record.ip, older_than_ms=created_at_ms)

    def others(self, records: Sequence[BatchRecord]) -> Iterator[None]:
        """Sigterm, removed and ipchanged: event by the guard, rows only if older (§13.7, W45)."""
        for position, record in enumerate(records):
            if record.type in (APPRUNNING, EVICTED) or record.envelope is None:
                continue
            if record.type in (SIGTERM, APPREMOVED, IPCHANGED):
                self._one_other(position, record, record.envelope)
            else:
                self.refused.append((position, "dispatch", "unknown_type"))
            yield

    def _one_other(self, position: int, record: BatchRecord, envelope: Envelope) -> None:
        draft = self.draft
        message = self._read(position, record, record.type)
        if isinstance(message, NodeSigterm):
            put_sigterm_event(draft, message, envelope)
            grace_end_ms = message.at_ms + draft.windows.sigterm_grace_ms
            draft.expire_locations(message.ip, grace_end_ms, older_than_ms=message.at_ms)
        elif isinstance(message, Removed):
            put_removed_event(draft, message, envelope)
            remove_location(draft, message, only_older=True)
        elif isinstance(message, IpChanged):
            put_ip_changed_event(draft, message, envelope)

    def installs(self, kind: str, records: Sequence[BatchRecord]) -> Iterator[None]:
        """Installing and error records: copy overwritten with the sender's receivedAt, row guarded."""
        for position, record in enumerate(records):
            message = self._read(position, record, kind)
            if isinstance(message, Installing | InstallError) and record.envelope is not None:
                self._one_install(position, record, message, record.envelope)
            yield

    def _one_install(
        self, position: int, record: BatchRecord, message: Installing | InstallError, envelope: Envelope
    ) -> None:
        draft = self.draft
        self.verified += 1
        if not put_copy(draft, message, envelope, record.received_at_ms):
            self.refused.append((position, "age", "broadcast_stale"))
            return
        self.stored += 1
        if isinstance(message, Installing):
            expire_at_ms = message.at_ms + draft.windows.installing_ms
            draft.put_installing(message.name, message.ip, message.at_ms, expire_at_ms)
        else:
            put_error(draft, message, message.at_ms + draft.windows.install_error_ms)
