"""Decision: what is to be done with one message, as plain data (docs/spec/events.md §4)."""

from __future__ import annotations

from typing import Any

import msgspec

from trionode.appstate.changes import Change

Published = tuple[str, dict[str, Any]]
"""An event for the bus: name and data (docs/spec/testnet.md §6)."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one message.

    `accepted`: it brought something new. If not, `stop` names the rule that ended its way (dispatch, age,
    validate, relevance, guard) and `reason` what was wrong, both fit for counters; `detail` is for people.
    `changes` may hold something even then (an older message still renews receivedAt).
    """

    accepted: bool
    stop: str = ""
    reason: str = ""
    detail: str = ""
    changes: tuple[Change, ...] = ()
    relay: bool = False
    published: tuple[Published, ...] = ()


class SyncOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one sync chunk: how many records verified, how many were stored, which were refused."""

    accepted: bool
    verified: int = 0
    stored: int = 0
    refused: tuple[tuple[int, str, str], ...] = ()
    changes: tuple[Change, ...] = ()
    published: tuple[Published, ...] = ()


class Refusal(Exception):
    """Raised by a rule that ends the way of a message; becomes a Decision."""

    def __init__(self, stop: str, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.stop = stop
        self.reason = reason
        self.detail = detail

    def decision(self, changes: tuple[Change, ...] = ()) -> Decision:
        return Decision(
            accepted=False, stop=self.stop, reason=self.reason, detail=self.detail, changes=changes
        )
