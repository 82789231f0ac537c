"""The departure: what a node does when it is told to stop, before its services are stopped (lifecycle.md §5).

Only a SIGTERM while the whole machine goes down concerns the apps. Then the peers are told, the own rows are
given their last minutes, the reason is noted for the next boot, and the containers are stopped, all side by
side in one scope with one deadline: a peer, a store or an engine that hangs costs its own part and nothing
else. Everything else (a restart of the process, Ctrl-C) is only the orderly stop of the supervisor.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import trio

from trionode.appstate.decision import Decision
from trionode.config.tree import HostingSettings, NodeSettings
from trionode.hosting.heartbeat import Heartbeat
from trionode.hosting.port import AppHost
from trionode.lifecycle.boot import SIGTERM
from trionode.lifecycle.shutdown import goodbye, to_stop
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.crashes import describe
from trionode.runtime.logs import get_logger
from trionode.runtime.machine import Machine
from trionode.wire.envelope import Envelope

SIGNAL = "SIGTERM"
LAST_STEPS_S = 2.0
"""Kept at the end of a short grace for the services and the store, at most half of it."""
CHECK_SHARE = 0.5
"""Of the time before that, no more goes into finding out whether the machine goes down."""
SAY_S = 1.0
"""How long peers may take to read, and the own log to store, the goodbye."""
NOTE_S = 3.0
"""How long the store may take to note the reason."""
KILL_S = 0.3
"""How much longer than its grace the engine may take to stop a container before it is told to kill it."""

log = get_logger("hosting.departure")


class Peers(Protocol):
    """What the departure needs of the peers."""

    def broadcast_last(self, data: dict[str, Any]) -> Envelope:
        """Sign and queue for every peer at once."""
        ...

    async def flushed(self) -> None:
        """Wait until it is on its way to all of them."""
        ...


class OwnLog(Protocol):
    """The part of the event log that takes the node's own messages."""

    async def apply_local(self, envelope: Envelope) -> Decision: ...


class SenderFacts(Protocol):
    """What must be known from the chain."""

    @property
    def own_address(self) -> str | None: ...


class Departure:
    """`leave` is the supervisor's farewell.

    `running`: names last announced; `hush` silences the announcer.
    """

    def __init__(
        self,
        node: NodeSettings,
        hosting: HostingSettings,
        *,
        machine: Machine,
        host: AppHost,
        heartbeat: Heartbeat,
        peers: Peers,
        own_log: OwnLog,
        facts: SenderFacts,
        clock: WallClock,
        counters: Counters,
        running: Callable[[], Sequence[str]],
        hush: Callable[[], None],
    ) -> None:
        self._own_share_s = node.shutdown_grace_s - min(LAST_STEPS_S, node.shutdown_grace_s / 2)
        self._stop_grace_s = hosting.stop_grace_s
        self._long_grace_s = max(node.shutdown_grace_s, hosting.stop_grace_s + hosting.stop_extra_s)
        self._long_share_s = max(self._own_share_s, self._long_grace_s - hosting.stop_extra_s / 2)
        self._machine = machine
        self._host = host
        self._heartbeat = heartbeat
        self._peers = peers
        self._own_log = own_log
        self._facts = facts
        self._clock = clock
        self._counters = counters
        self._running = running
        self._hush = hush

    async def leave(self, reason: str, extend_grace: Callable[[float], None]) -> None:
        """Do what `reason` asks for; ends in time whatever hangs.

        `extend_grace(total_s)` is called when containers must be stopped: the whole stop, counted from
        this call, may then take that long.
        """
        if reason != SIGNAL:
            return
        began_s = trio.current_time()
        with trio.CancelScope(deadline=began_s + self._own_share_s) as scope:
            if not await self._machine_goes_down():
                return
            self._hush()
            message = goodbye(
                running_apps=len(self._running()),
                own_address=self._facts.own_address,
                now_ms=self._clock.now_ms(),
            )
            envelope = None if message is None else self._broadcast(message)

            def more_time() -> None:
                scope.deadline = began_s + self._long_share_s
                extend_grace(self._long_grace_s)

            async with trio.open_nursery() as nursery:
                if envelope is not None:
                    nursery.start_soon(self._within, SAY_S, "peers", self._peers.flushed)
                    nursery.start_soon(self._within, SAY_S, "own log", self._apply, envelope)
                nursery.start_soon(self._within, NOTE_S, "note", self._heartbeat.record_shutdown, SIGTERM)
                nursery.start_soon(self._within, math.inf, "engine", self._stop_containers, more_time)
        if scope.cancelled_caught:
            self._counters.add("departure.overdue")
            log.warning("the departure was cut off by its deadline")

    async def _machine_goes_down(self) -> bool:
        with trio.move_on_after(self._own_share_s * CHECK_SHARE):
            down = await self._machine.is_going_down()
            if not down:
                log.info("only this process stops: apps stay, peers are not told")
            return down
        self._counters.add("departure.undecided")
        log.warning("whether the machine goes down could not be found out in time: apps stay")
        return False

    def _broadcast(self, message: dict[str, Any]) -> Envelope | None:
        try:
            return self._peers.broadcast_last(message)
        except Exception as error:  # noqa: BLE001 - see _within
            self._counters.add("departure.failed.broadcast")
            log.error("the peers could not be told", problem=describe(error))
            return None

    async def _apply(self, envelope: Envelope) -> None:
        decision = await self._own_log.apply_local(envelope)
        if not decision.accepted:
            log.warning("own goodbye refused by the own log", reason=decision.reason)

    async def _within(
        self, limit_s: float, what: str, step: Callable[..., Awaitable[object]], *args: Any
    ) -> None:
        """One part of the departure; neither its failure nor its hanging touches the others."""
        try:
            with trio.move_on_after(limit_s) as scope:
                await step(*args)
        except Exception as error:  # noqa: BLE001 - no part may take the others along
            self._counters.add(f"departure.failed.{what}")
            log.error("part of the departure failed", part=what, problem=describe(error))
            return
        if scope.cancelled_caught:
            self._counters.add(f"departure.slow.{what}")
            log.warning("part of the departure took too long", part=what, limit_s=limit_s)

    async def _stop_containers(self, more_time: Callable[[], None]) -> None:
        """Stop what runs, side by side; what cannot be stopped is killed."""
        running = to_stop(await self._host.containers())
        if not running:
            return
        more_time()
        log.info("stopping containers", count=len(running), grace_s=self._stop_grace_s)
        async with trio.open_nursery() as nursery:
            for container in running:
                nursery.start_soon(self._stop_one, container)

    async def _stop_one(self, container: str) -> None:
        try:
            with trio.move_on_after(self._stop_grace_s + KILL_S):
                await self._host.stop(container, self._stop_grace_s)
                return
        except Exception as error:  # noqa: BLE001 - one container may not keep the others running
            log.warning("container did not stop, killing it", container=container, problem=describe(error))
        self._counters.add("departure.killed")
        await self._within(KILL_S, "kill", self._host.kill, container)
