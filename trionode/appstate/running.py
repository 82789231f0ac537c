"""Running messages: gossip and own announcements (docs/spec/events.md §4.1, §9)."""

from __future__ import annotations

from trionode.appstate.documents import APPRUNNING
from trionode.appstate.draft import Draft
from trionode.appstate.facts import running_fact
from trionode.appstate.messages import Running, date_ms
from trionode.wire.envelope import Envelope


def put_running_event(draft: Draft, message: Running, envelope: Envelope, *, sync: bool = False) -> bool:
    """The event of a running message. True if it won.

    A gossiped empty list without history is no news (W12); batch sync only has the guard (§5).
    """
    ip = message.ip
    if message.version == 2 and not message.apps and not sync and not draft.state.has_running_event(ip):
        return False
    fact = running_fact(message.data, message.at_ms, message.at_ms + draft.windows.running_ms)
    key = (ip, APPRUNNING, message.dedup_key)
    return draft.put_event(key, fact, envelope, None if sync else draft.now_ms, touch=not sync)


def store_locations(draft: Draft, message: Running) -> bool:
    """The cache rows of a running message; True if any row was made or changed (§4.1)."""
    ip, at_ms, data = message.ip, message.at_ms, message.data
    if message.version == 2 and not message.apps:
        rows = draft.state.rows_at(ip)
        if not rows:
            return False
        for row in rows:
            if row.broadcasted_at_ms <= at_ms:
                draft.delete_location(row)
        draft.forget_all_installing(ip)
        # Counts as stored even when every row was newer: the network relays it then (W14).
        return True
    message_since = data.get("runningSince")
    os_uptime, static_ip = data.get("osUptime"), data.get("staticIp")
    stored = False
    for app in message.apps:
        since = app.running_since if message_since is None else message_since
        since_ms = at_ms if since is None else date_ms(since)
        since_ms = at_ms if since_ms is None else since_ms
        stored |= draft.put_location(app.name, app.hash, ip, at_ms, since_ms, os_uptime, static_ip)
        draft.forget_installing(app.name, ip)
    return stored
