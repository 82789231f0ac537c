"""The node-status monitor: no apps without the network's consent, no locations of nodes that left
(docs/spec/events.md §8, lifecycle.md §10).

A penalty of 100, a daemon silent for too long, or a lost confirmation take all apps from this node, at
once when it happens and again at each round. A node in good standing looks for others that left the
node list (`hosting.sweep`). What a round does and how long the rest is, is a table: `lifecycle.monitors`.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import trio

from trionode.config.tree import BootSettings, MonitorSettings
from trionode.errors import TrionodeError
from trionode.hosting.removal import AppRemoval, Leaving
from trionode.hosting.sweep import Sweep, SweepReport
from trionode.lifecycle.confirmation import ConfirmationState
from trionode.lifecycle.monitors import Duty, Round, Standing, next_round, pause_s
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import DosState
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

URGENT = ("confirmation:changed", "chain:stale", "dos:changed")
"""After these a node may have to let its apps go."""

log = get_logger("hosting.nodestatus")


class StandingFacts(Protocol):
    """What the monitor must know from the chain (`chain.facts.ChainFacts`)."""

    @property
    def confirmation(self) -> ConfirmationState: ...


class MonitorStatus(msgspec.Struct, frozen=True):
    """For the status routes: what the last round was about, and the last sweep."""

    duty: str | None
    reason: str | None
    removing: bool
    last_sweep: SweepReport | None
    last_sweep_age_s: float | None


class NodeStatus:
    """Service "nodestatus".

    `boot_settled`: opens when the boot decision is carried out; until then the apps are in its hands.
    """

    name = "nodestatus"

    def __init__(
        self,
        settings: MonitorSettings,
        boot: BootSettings,
        *,
        facts: StandingFacts,
        sweep: Sweep,
        removal: AppRemoval,
        dos: DosState,
        bus: EventBus,
        counters: Counters,
        boot_settled: Gate,
    ) -> None:
        self._settings = settings
        self._first_delay_s = boot.node_monitor_delay_s * boot.delay_factor
        self._facts = facts
        self._sweep = sweep
        self._removal = removal
        self._dos = dos
        self._bus = bus
        self._counters = counters
        self._boot_settled = boot_settled
        self._last_duty: Duty | None = None
        self._last_reason: str | None = None
        self._last_sweep: SweepReport | None = None
        self._last_sweep_s = 0.0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._react, name="loss of standing")
            nursery.start_soon(self._repeat, name="rounds")
            task_status.started()

    @property
    def status(self) -> MonitorStatus:
        """Needs a running Trio loop (ages)."""
        swept = self._last_sweep
        return MonitorStatus(
            None if self._last_duty is None else self._last_duty.value,
            self._last_reason,
            self._removal.in_progress,
            swept,
            None if swept is None else round(trio.current_time() - self._last_sweep_s, 3),
        )

    def leaving(self) -> Leaving | None:
        """Whether all apps have to go now, without doing it."""
        row = self._next()
        if row.duty is not Duty.REMOVE_ALL:
            return None
        return Leaving(row.when, pause_s=self._settings.node_removal_spacing_s)

    async def _react(self) -> None:
        with self._bus.subscribe(*URGENT, buffer=16) as news:
            await self._boot_settled.wait()
            while True:
                row = self._next()
                if row.duty is Duty.REMOVE_ALL:
                    await self._remove_all(row.when)
                await news.receive()

    async def _repeat(self) -> None:
        await trio.sleep(self._first_delay_s)
        await self._boot_settled.wait()
        while True:
            rest_s = await self._round()
            await trio.sleep(rest_s)

    async def _round(self) -> float:
        """Do what the standing asks for; seconds until the next round."""
        row = self._next()
        self._last_duty, self._last_reason = row.duty, row.when
        try:
            if row.duty is Duty.REMOVE_ALL:
                await self._remove_all(row.when)
            elif row.duty is Duty.SWEEP:
                self._last_sweep = await self._sweep.run()
                self._last_sweep_s = trio.current_time()
                if self._last_sweep.skipped:
                    return self._settings.error_recovery_s
        except TrionodeError as error:
            self._counters.add("nodestatus.failed")
            log.error("round of the monitor failed", problem=error.message, remedy=error.remedy)
            return self._settings.error_recovery_s
        return pause_s(row, self._settings)

    async def _remove_all(self, reason: str) -> None:
        """Let the apps go one by one, as long as there is a reason to; the first one now."""

        def still_due() -> bool:
            return self._next().duty is Duty.REMOVE_ALL

        await self._removal.remove_all(
            reason, pause_s=self._settings.node_removal_spacing_s, still_due=still_due
        )

    def _next(self) -> Round:
        """The round the present standing asks for."""
        confirmation = self._facts.confirmation
        return next_round(
            Standing(penalty=self._dos.state, stale=confirmation.stale, confirmed=confirmation.confirmed)
        )
