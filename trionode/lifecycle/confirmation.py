"""Is this node confirmed, and may it send signed messages? As pure rules (docs/spec/lifecycle.md §6).

`ConfirmationState` changes by three transitions: the daemon answered, it did not, our own entry was
looked up. What a change means for others is `news`; what it leads to is `CONSEQUENCES`.
"""

from __future__ import annotations

from typing import Any

import msgspec

CONFIRMED = "CONFIRMED"

CONSEQUENCES: tuple[tuple[str, str, str], ...] = (
    ("confirmation lost", "confirmation:changed", "links closed and refused, apps removed"),
    ("confirmation gained", "confirmation:changed", "links allowed, discovery goes on"),
    ("stale", "chain:stale", "apps removed; the message capability stays"),
    ("capability gained", "chain:capability", "first hash sync or readiness check; apps announced at once"),
    ("capability lost", "chain:capability", "READY is left; announcements are skipped"),
)
"""Change, the event that tells it, and what follows (events in the order `news` gives them)."""


class ConfirmationState(msgspec.Struct, frozen=True):
    """What is known. `confirmed` is None until the daemon has answered once."""

    confirmed: bool | None = None
    can_send: bool = False
    stale: bool = False
    last_success_s: float | None = None


def after_answer(state: ConfirmationState, status: object, now_s: float) -> ConfirmationState:
    """The daemon answered `status` (None when its answer held none)."""
    confirmed = status == CONFIRMED
    return ConfirmationState(confirmed, state.can_send and confirmed, stale=False, last_success_s=now_s)


def after_failure(
    state: ConfirmationState, now_s: float, *, stale_s: float, expired_s: float
) -> ConfirmationState:
    """The daemon did not answer: the value is kept until the last answer is too old."""
    if state.last_success_s is None:
        return state
    age_s = now_s - state.last_success_s
    expired = age_s > expired_s and state.confirmed is True
    return msgspec.structs.replace(
        state,
        stale=state.stale or age_s > stale_s,
        confirmed=False if expired else state.confirmed,
        can_send=state.can_send and not expired,
    )


def with_capability(state: ConfirmationState, *, is_listed: bool) -> ConfirmationState:
    """`is_listed`: the node list maps our own address to our own public key."""
    return msgspec.structs.replace(state, can_send=state.confirmed is True and is_listed)


def news(before: ConfirmationState, after: ConfirmationState) -> list[tuple[str, dict[str, Any]]]:
    """The events that tell of the step from `before` to `after`, in publishing order."""
    events: list[tuple[str, dict[str, Any]]] = []
    if after.stale and not before.stale:
        events.append(("chain:stale", {}))
    if after.confirmed != before.confirmed:
        events.append(("confirmation:changed", {"confirmed": after.confirmed}))
    if after.can_send != before.can_send:
        if after.confirmed:
            events.append(("messageCapability:changed", {"capable": after.can_send}))
        events.append(("chain:capability", {"capable": after.can_send}))
    return events
