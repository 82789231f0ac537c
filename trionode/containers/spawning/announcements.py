"""What the network is told about installs: one begins, one failed (docs/spec/events.md §4.5, §4.6, §7).

A node that may not send says nothing: peers would refuse it. What ran or ended is told by the announcer.
"""

from __future__ import annotations

from typing import Protocol

from trionode.config.tree import AppStateSettings
from trionode.hosting.ownmessages import Broadcaster, OwnLog, OwnMessages
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.wire.jsjson import stringify

ERROR_CHARACTERS = 2_000
"""Longer texts are cut: what an image registry answers has no bound of its own."""


class SenderFacts(Protocol):
    """What must be known from the chain."""

    @property
    def own_address(self) -> str | None: ...
    @property
    def can_send(self) -> bool: ...


class Announcements:
    """Sends `fluxappinstalling` and `fluxappinstallingerror`."""

    def __init__(
        self,
        settings: AppStateSettings,
        facts: SenderFacts,
        broadcaster: Broadcaster,
        own_log: OwnLog,
        counters: Counters,
        clock: WallClock,
    ) -> None:
        self._facts = facts
        self._counters = counters
        self._messages = OwnMessages(
            "announcements", broadcaster, own_log, counters, clock, max_future_ms=settings.max_future_ms
        )

    async def installing(self, app: str) -> bool:
        """An install of this app is about to begin here; False when nothing could be told.

        Raises PeerError and StoreError, as `install_error` does.
        """
        address = self._may_tell()
        if address is None:
            return False
        await self._messages.send(
            {
                "type": "fluxappinstalling",
                "version": 1,
                "name": app,
                "ip": address,
                "broadcastedAt": self._messages.stamp_ms(),
            }
        )
        self._counters.add("announcements.installing")
        return True

    async def install_error(self, app: str, hash: str, error: str) -> bool:
        """The install of this app failed here; `error` is a sentence without secrets."""
        address = self._may_tell()
        if address is None:
            return False
        await self._messages.send(
            {
                "type": "fluxappinstallingerror",
                "version": 1,
                "name": app,
                "hash": hash,
                "error": stringify({"name": "Error", "message": error[:ERROR_CHARACTERS]}),
                "ip": address,
                "broadcastedAt": self._messages.stamp_ms(),
            }
        )
        self._counters.add("announcements.install_error")
        return True

    def _may_tell(self) -> str | None:
        address = self._facts.own_address
        if address is None or not self._facts.can_send:
            self._counters.add("announcements.skipped")
            return None
        return address
