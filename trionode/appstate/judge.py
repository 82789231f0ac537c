"""Judge one verified message: accept, store, relay (docs/spec/events.md §4, §9, §13).

`judge` decides on values already in memory and folds the outcome into the state; the changes it returns
are what the store has to make durable. Signature and node list were checked before (wire.md §9.5).
"""

from __future__ import annotations

from typing import Any

from trionode.appstate.decision import Decision, Published, Refusal
from trionode.appstate.draft import Draft
from trionode.appstate.installs import forget_errors, put_copy, put_error
from trionode.appstate.messages import (
    InstallError,
    Installing,
    IpChanged,
    NodeSigterm,
    Removed,
    Running,
    check_signed,
    read_message,
)
from trionode.appstate.running import put_running_event, store_locations
from trionode.appstate.state import AppState
from trionode.appstate.withdrawals import (
    drop_locations,
    move_locations,
    put_evicted_event,
    put_ip_changed_event,
    put_removed_event,
    put_sigterm_event,
    remove_location,
)
from trionode.wire.envelope import Envelope
from trionode.wire.jsnumber import to_number


def is_fresh(envelope: Envelope, max_age_ms: int, now_ms: int) -> bool:
    """Whether the envelope is younger than `max_age_ms` (equal is too old, W10).

    A text as timestamp gets the age appended to it, as in JavaScript, and is practically always fresh.
    """
    timestamp = envelope.timestamp
    if isinstance(timestamp, str):
        return now_ms < to_number(f"{timestamp}{max_age_ms}")
    return now_ms < timestamp + max_age_ms


def judge(state: AppState, envelope: Envelope, now_ms: int) -> Decision:
    """Judge a gossiped envelope and fold it in. `state.advance(now_ms)` comes first."""
    draft = Draft(state, now_ms)
    windows = state.windows
    try:
        if not is_fresh(envelope, windows.dispatch_ms, now_ms):
            raise Refusal("age", "envelope_stale", "the envelope is past its age")
        check_signed(envelope)
        message = read_message(envelope.data, now_ms, windows)
        relay_age_ms = windows.relay_ms
        if isinstance(message, Running):
            published = _running(draft, message, envelope)
        elif isinstance(message, Removed):
            published = _removed(draft, message, envelope)
        elif isinstance(message, IpChanged):
            published = _ip_changed(draft, message, envelope)
        elif isinstance(message, NodeSigterm):
            published = _sigterm(draft, message, envelope)
        else:
            published = _install(draft, message, envelope)
            relay_age_ms = windows.dispatch_ms
    except Refusal as refusal:
        return refusal.decision(tuple(draft.changes))
    return Decision(
        accepted=True,
        changes=tuple(draft.changes),
        relay=published is not None and is_fresh(envelope, relay_age_ms, now_ms),
        published=() if published is None else (published,),
    )


def judge_local(state: AppState, envelope: Envelope, now_ms: int) -> Decision:
    """Fold in a message this node itself made (§9, §13.4). Never relayed, nothing published.

    Ages and relevance are not asked: the node knows about itself.
    """
    draft = Draft(state, now_ms)
    try:
        message = read_message(envelope.data, now_ms, state.windows)
    except Refusal as refusal:
        return refusal.decision()
    if isinstance(message, Running):
        store_locations(draft, message)
        put_running_event(draft, message, envelope)
    elif isinstance(message, Removed):
        put_removed_event(draft, message, envelope)
        remove_location(draft, message, only_older=True)
    elif isinstance(message, IpChanged):
        put_ip_changed_event(draft, message, envelope)
        move_locations(draft, message)
    elif isinstance(message, NodeSigterm):
        put_sigterm_event(draft, message, envelope)
        draft.expire_locations(message.ip, message.at_ms + state.windows.sigterm_grace_ms)
    elif isinstance(message, Installing):
        draft.put_installing(
            message.name, message.ip, message.at_ms, message.at_ms + state.windows.own_installing_ms
        )
    elif put_error(draft, message, message.at_ms + state.windows.install_error_ms):
        draft.forget_installing(message.name, message.ip)
    return Decision(accepted=True, changes=tuple(draft.changes))


def evict(state: AppState, ip: str, now_ms: int, *, drop_rows: bool = True) -> Decision:
    """The local verdict of the node monitor (§8.3); `drop_rows` also deletes the cache rows."""
    draft = Draft(state, now_ms)
    put_evicted_event(draft, ip, now_ms)
    if drop_rows:
        drop_locations(draft, ip)
    return Decision(accepted=True, changes=tuple(draft.changes))


def forget_install_errors(state: AppState, name: str, now_ms: int) -> Decision:
    """An app got a newer specification or expired: its install errors are void (§7)."""
    draft = Draft(state, now_ms)
    forget_errors(draft, name)
    return Decision(accepted=True, changes=tuple(draft.changes))


def _news(event: str, /, **data: Any) -> Published:
    return (f"network:{event}", data)


def _running(draft: Draft, message: Running, envelope: Envelope) -> Published | None:
    if message.at_ms + draft.windows.validity_ms < draft.now_ms:
        raise Refusal("age", "broadcast_stale", f"broadcastedAt is {draft.now_ms - message.at_ms} ms old")
    won = put_running_event(draft, message, envelope)
    if store_locations(draft, message):
        apps = message.data["apps"] if message.version == 2 else [{"name": message.apps[0].name}]
        return _news("apprunning", ip=message.ip, apps=apps)
    if not won:
        if message.version == 2 and not message.apps:
            raise Refusal("guard", "nothing_to_clear", f"an empty list, and nothing known of {message.ip}")
        raise Refusal("guard", "not_newer", "a message at least as new is stored")
    return None


def _removed(draft: Draft, message: Removed, envelope: Envelope) -> Published | None:
    won = put_removed_event(draft, message, envelope)
    if message.at_ms + draft.windows.location_ms < draft.now_ms:
        _require_newer(won)
        return None
    remove_location(draft, message, only_older=False)
    return _news("appremoved", ip=message.ip, name=message.app_name)


def _ip_changed(draft: Draft, message: IpChanged, envelope: Envelope) -> Published | None:
    won = put_ip_changed_event(draft, message, envelope)
    if message.at_ms + draft.windows.location_ms < draft.now_ms:
        _require_newer(won)
        return None
    move_locations(draft, message)
    return _news("ipchanged", oldIP=message.old_ip, newIP=message.new_ip)


def _require_newer(won: bool) -> None:
    """Too old for the rows (W23, W56): at most the event is news, and that is not passed on."""
    if not won:
        raise Refusal("guard", "not_newer", "a message at least as new is stored")


def _sigterm(draft: Draft, message: NodeSigterm, envelope: Envelope) -> Published:
    if not is_fresh(envelope, draft.windows.relay_ms, draft.now_ms):
        raise Refusal("age", "envelope_stale", "a shutdown is only of interest for four minutes")
    if not draft.state.index.locations(ip=message.ip):
        raise Refusal("relevance", "no_location", f"nothing is known to run at {message.ip}")
    put_sigterm_event(draft, message, envelope)
    draft.expire_locations(message.ip, message.at_ms + draft.windows.sigterm_grace_ms)
    return _news("sigterm", ip=message.ip)


def _install(draft: Draft, message: Installing | InstallError, envelope: Envelope) -> Published | None:
    """Row and signed copy are judged apart: the copy has a wider window and no guard (W34, W37)."""
    windows, stored, refusal = draft.windows, False, None
    if message.at_ms + windows.validity_ms < draft.now_ms:
        age_ms = draft.now_ms - message.at_ms
        refusal = Refusal("age", "broadcast_stale", f"broadcastedAt is {age_ms} ms old")
    elif isinstance(message, Installing):
        expire_at_ms = message.at_ms + windows.installing_ms
        stored = draft.put_installing(message.name, message.ip, message.at_ms, expire_at_ms)
    else:
        stored = put_error(draft, message, message.at_ms + windows.install_error_ms)
        if stored:
            draft.forget_installing(message.name, message.ip)
    put_copy(draft, message, envelope, draft.now_ms)
    if not stored:
        raise refusal or Refusal("guard", "not_newer", "a message at least as new is stored")
    kind = "appinstalling" if isinstance(message, Installing) else "appinstallingerror"
    return _news(kind, ip=message.ip, name=message.name)
