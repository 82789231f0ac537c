"""The chain-info poll: height, headers, is the daemon reachable, are we synced (daemon-rpc.md §4).

Published: `daemon:polled` {height, headers}, `daemon:recovered` / `daemon:unreachable` {} on a flip
(the first poll always gives one of them), and `chain:height` {height} when the height changed.
"""

from __future__ import annotations

import trio

from trionode.chain.port import ChainRpc
from trionode.config.tree import ChainSettings
from trionode.errors import ChainError
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate

INITIAL_HEADERS = 1_136_836
"""Headers assumed before the first answer, so that a young chain is never taken for synced."""


class ChainInfo:
    """Height and headers as of the last successful poll; everything asks this, not the RPC."""

    def __init__(self, settings: ChainSettings, daemon: ChainRpc, bus: EventBus, counters: Counters) -> None:
        self._settings = settings
        self._daemon = daemon
        self._bus = bus
        self._counters = counters
        self._last_success_s: float | None = None
        self.height = 0
        self.headers = INITIAL_HEADERS
        self.reachable: bool | None = None
        self.last_error: ChainError | None = None
        self.known = Gate()
        """Opens after the first successful poll."""

    @property
    def synced(self) -> bool:
        """The last answer is young enough and its height close enough to the headers."""
        if self._last_success_s is None:
            return False
        settings, age_s = self._settings, trio.current_time() - self._last_success_s
        behind_blocks = self.headers - self.height
        return age_s <= settings.synced_within_s and behind_blocks < settings.synced_within_blocks

    async def run(self) -> None:
        """Poll for ever; `poll_interval_s` after each poll ends, sooner until the daemon first answered."""
        settings = self._settings
        while True:
            await self.poll()
            absent = self._last_success_s is None
            await trio.sleep(
                min(settings.start_gate_interval_s, settings.poll_interval_s)
                if absent
                else settings.poll_interval_s
            )

    async def poll(self) -> None:
        """Ask once; a failure keeps the last values."""
        try:
            answer = await self._daemon.call("getblockchaininfo", fresh=True)
            height, headers = _whole(answer, "blocks"), _whole(answer, "headers")
        except ChainError as error:
            self.last_error = error
            self._counters.add("chain.poll.failed")
            self._flip(False)
            return
        self.last_error = None
        self._last_success_s = trio.current_time()
        changed = height != self.height
        self.height = height
        self.headers = max(self.headers, headers)
        self._counters.add("chain.poll.succeeded")
        self._bus.publish("daemon:polled", {"height": height, "headers": self.headers})
        self._flip(True)
        self.known.open()
        if changed:
            self._bus.publish("chain:height", {"height": height})

    def _flip(self, reachable: bool) -> None:
        if reachable != self.reachable:
            self.reachable = reachable
            self._bus.publish("daemon:recovered" if reachable else "daemon:unreachable")


def _whole(answer: object, key: str) -> int:
    """A height of an answer; daemons give numbers, some proxies strings (daemon-rpc.md §9)."""
    value = answer.get(key) if isinstance(answer, dict) else None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ChainError(
            f"getblockchaininfo gave {key} = {value!r}, which is no height",
            remedy="check that chain.daemon_host and the port belong to fluxd",
        )
    return value
