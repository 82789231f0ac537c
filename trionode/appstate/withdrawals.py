"""Messages and local verdicts that take locations away: removed, ipchanged, sigterm, evicted
(docs/spec/events.md §4.2-§4.4, §8, §10.3).

Gossip changes cache rows without comparing times, as the network does (W20, W53, W55); what comes by
sync compares (§13.7). Neither reaches what is served: that is the index, which always compares.
"""

from __future__ import annotations

import msgspec

from trionode.appstate.changes import DeleteLocation, PutEvent, PutLocation
from trionode.appstate.documents import APPREMOVED, EVICTED, IPCHANGED, SIGTERM, EventRow
from trionode.appstate.draft import Draft
from trionode.appstate.facts import MoveFact, PointFact
from trionode.appstate.messages import IpChanged, NodeSigterm, Removed
from trionode.wire.envelope import Envelope


def put_removed_event(draft: Draft, message: Removed, envelope: Envelope) -> bool:
    fact = PointFact(message.at_ms, message.at_ms + draft.windows.running_ms)
    key = (message.ip, APPREMOVED, f"{APPREMOVED}:{message.app_name}")
    return draft.put_event(key, fact, envelope, draft.now_ms)


def remove_location(draft: Draft, message: Removed, *, only_older: bool) -> None:
    """Delete at most one cache row of the app at the address."""
    row = draft.state.row(message.app_name, message.ip)
    if row is not None and (not only_older or row.broadcasted_at_ms < message.at_ms):
        draft.delete_location(row)


def put_ip_changed_event(draft: Draft, message: IpChanged, envelope: Envelope) -> bool:
    fact = MoveFact(message.at_ms, message.at_ms + draft.windows.running_ms, message.new_ip)
    return draft.put_event((message.old_ip, IPCHANGED, IPCHANGED), fact, envelope, draft.now_ms)


def move_locations(draft: Draft, message: IpChanged) -> None:
    """Move all cache rows to the new address with the time of the message, expireAt as it was (W29)."""
    for row in draft.state.rows_at(message.old_ip):
        draft.do(DeleteLocation(row.row_id, row.name, row.ip))
        moved = msgspec.structs.replace(row, ip=message.new_ip, broadcasted_at_ms=message.at_ms)
        draft.do(PutLocation(moved))


def put_sigterm_event(draft: Draft, message: NodeSigterm, envelope: Envelope) -> bool:
    # 125 minutes, not the grace: the event must outlive the running records it hides (§6, V34).
    fact = PointFact(message.at_ms, message.at_ms + draft.windows.running_ms)
    return draft.put_event((message.ip, SIGTERM, SIGTERM), fact, envelope, draft.now_ms)


def put_evicted_event(draft: Draft, ip: str, created_at_ms: int) -> None:
    """Unguarded, from the local clock (§3, W32)."""
    expire_at_ms = created_at_ms + draft.windows.evicted_ms
    row = EventRow(
        ip, EVICTED, EVICTED, expire_at_ms, created_at_ms=created_at_ms, received_at_ms=draft.now_ms
    )
    draft.do(PutEvent(row, PointFact(created_at_ms, expire_at_ms)))


def drop_locations(draft: Draft, ip: str, older_than_ms: int | None = None) -> None:
    """Delete the cache rows of an evicted address; with `older_than_ms` only rows older than it."""
    for row in draft.state.rows_at(ip):
        if older_than_ms is None or row.broadcasted_at_ms < older_than_ms:
            draft.delete_location(row)
