"""The confirmation poll (docs/spec/lifecycle.md §6): feeds the rules of `lifecycle.confirmation`.

Published: `confirmation:changed` {confirmed} (the first known value counts as a change),
`messageCapability:changed` {capable} (not when capability falls with the confirmation), and for
our own services `chain:capability` {capable} at every change and `chain:stale` {} once per outage.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from trionode.chain.port import ChainRpc
from trionode.config.tree import ChainSettings
from trionode.errors import ChainError
from trionode.lifecycle.confirmation import (
    Answered,
    ConfirmationFacts,
    ConfirmationState,
    LookedUp,
    Unanswered,
    step,
)
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate


class Confirmation:
    """Keeps the state current: a poll after every interval, a recheck when the node list changes."""

    def __init__(
        self,
        settings: ChainSettings,
        daemon: ChainRpc,
        bus: EventBus,
        counters: Counters,
        is_listed: Callable[[], Awaitable[bool]],
    ) -> None:
        self._settings = settings
        self._daemon = daemon
        self._bus = bus
        self._counters = counters
        self._is_listed = is_listed
        self._turn = trio.Lock()
        self.state = ConfirmationState()
        self.known = Gate()
        """Opens after the first poll, whatever its outcome."""
        self.answered = Gate()
        """Opens with the first answer: until then nobody knows whether the node is confirmed."""
        self.confirmed = Gate()
        self.can_send = Gate()

    async def run(self) -> None:
        """Poll for ever; `confirmation_poll_interval_s` after each poll ends."""
        while True:
            await self.poll()
            await trio.sleep(self._settings.confirmation_poll_interval_s)

    async def poll(self) -> None:
        """Ask the daemon once and take over what follows from its answer or silence."""
        async with self._turn:
            try:
                answer = await self._daemon.call("getzelnodestatus", fresh=True)
            except ChainError:
                self._counters.add("chain.confirmation.failed")
                self._take(Unanswered())
            else:
                self._take(Answered(answer.get("status") if isinstance(answer, dict) else None))
            self.known.open()
            await self._look_up()

    async def recheck(self) -> None:
        """Work out the message capability anew (the node list or our address changed)."""
        async with self._turn:
            await self._look_up()

    async def _look_up(self) -> None:
        self._take(LookedUp(await self._is_listed()))

    def _take(self, event: Answered | Unanswered | LookedUp) -> None:
        facts = ConfirmationFacts(
            trio.current_time(), self._settings.confirmation_stale_s, self._settings.confirmation_expired_s
        )
        self.state, told = step(self.state, event, facts)
        if self.state.confirmed is not None:
            self.answered.open()
        self.confirmed.set(self.state.confirmed is True)
        self.can_send.set(self.state.can_send)
        for news in told:
            self._bus.publish(news.name, news.data)
