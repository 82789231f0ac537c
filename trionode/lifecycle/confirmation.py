"""Is this node confirmed, and may it send signed messages? As pure rules (docs/spec/lifecycle.md §6).

`step` takes what was learnt (the daemon answered, it did not, our own entry was looked up) into the state.
What a change is called, by which event it is told and what it leads to is the table `CHANGES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

CONFIRMED = "CONFIRMED"


class ConfirmationState(msgspec.Struct, frozen=True):
    """What is known. `confirmed` is None until the daemon has answered once."""

    confirmed: bool | None = None
    can_send: bool = False
    stale: bool = False
    last_success_s: float | None = None


class ConfirmationFacts(msgspec.Struct, frozen=True):
    """The present moment, and how old the last answer may be: then it is stale, then it expires."""

    now_s: float
    stale_s: float = 7500.0
    expired_s: float = 19_200.0


class Answered(msgspec.Struct, frozen=True):
    """The daemon answered; `status` is None when its answer held none."""

    status: object


class Unanswered(msgspec.Struct, frozen=True):
    """The daemon did not answer, or with an error."""


class LookedUp(msgspec.Struct, frozen=True):
    """`is_listed`: the node list maps our own address to our own public key."""

    is_listed: bool


class Told(msgspec.Struct, frozen=True):
    """The effect of a step: an event to publish."""

    name: str
    data: dict[str, Any]


def step(
    state: ConfirmationState, event: Answered | Unanswered | LookedUp, facts: ConfirmationFacts
) -> tuple[ConfirmationState, tuple[Told, ...]]:
    """What the event makes of the state, and what is told of it, in this order."""
    if isinstance(event, Answered):
        after = _answered(state, event.status, facts)
    elif isinstance(event, Unanswered):
        after = _unanswered(state, facts)
    else:
        # Also while the daemon is away: the right to send does not outlive our entry.
        after = msgspec.structs.replace(state, can_send=state.confirmed is True and event.is_listed)
    return after, tuple(change.told(after) for change in CHANGES if change.happened(state, after))


def _answered(state: ConfirmationState, status: object, facts: ConfirmationFacts) -> ConfirmationState:
    confirmed = status == CONFIRMED
    return ConfirmationState(confirmed, state.can_send and confirmed, stale=False, last_success_s=facts.now_s)


def _unanswered(state: ConfirmationState, facts: ConfirmationFacts) -> ConfirmationState:
    """The value is kept until the last answer is too old. Before the first answer nothing changes."""
    if state.last_success_s is None:
        return state
    age_s = facts.now_s - state.last_success_s
    expired = age_s > facts.expired_s and state.confirmed is True
    return msgspec.structs.replace(
        state,
        stale=state.stale or age_s > facts.stale_s,
        confirmed=False if expired else state.confirmed,
        can_send=state.can_send and not expired,
    )


class Change(msgspec.Struct, frozen=True):
    """One row: what changed between two states, the event that tells it, and what follows from it."""

    name: str
    happened: Callable[[ConfirmationState, ConfirmationState], bool]
    event: str
    told: Callable[[ConfirmationState], Told]
    leads_to: str


def _confirmation(state: ConfirmationState) -> Told:
    return Told("confirmation:changed", {"confirmed": state.confirmed})


def _capability(state: ConfirmationState) -> Told:
    return Told("chain:capability", {"capable": state.can_send})


CHANGES: tuple[Change, ...] = (
    Change(
        "stale: no answer for too long (once per outage)",
        lambda before, after: after.stale and not before.stale,
        "chain:stale",
        lambda state: Told("chain:stale", {}),
        "apps are removed; the right to send stays",
    ),
    Change(
        "confirmed",
        lambda before, after: after.confirmed is True and before.confirmed is not True,
        "confirmation:changed",
        _confirmation,
        "links are allowed, discovery goes on",
    ),
    Change(
        "not confirmed (the first answer counts as a change)",
        lambda before, after: after.confirmed is False and before.confirmed is not False,
        "confirmation:changed",
        _confirmation,
        "links are closed and refused, apps are removed",
    ),
    Change(
        "right to send gained or lost while confirmed",
        lambda before, after: after.can_send != before.can_send and after.confirmed is True,
        "messageCapability:changed",
        lambda state: Told("messageCapability:changed", {"capable": state.can_send}),
        "told to the outside",
    ),
    Change(
        "right to send gained",
        lambda before, after: after.can_send and not before.can_send,
        "chain:capability",
        _capability,
        "first hash sync or readiness check; own apps are announced at once",
    ),
    Change(
        "right to send lost",
        lambda before, after: before.can_send and not after.can_send,
        "chain:capability",
        _capability,
        "READY is left; announcements are skipped",
    ),
)
"""In the order they are told."""
