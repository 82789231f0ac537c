"""PrivateGuard: containers of apps reach no private addresses, after a reboot as before (lifecycle.md §1.1).

An install applies the rules for its network; a machine that starts has none of them, and whoever flushes the
firewall takes them away. They are applied again when the engine answers, and from time to time.
"""

from __future__ import annotations

import trio

from trionode.config.tree import MonitorSettings
from trionode.containers.disk import Firewall
from trionode.containers.engine import Engine
from trionode.containers.host import ENGINE_BACK
from trionode.errors import HostError
from trionode.plans.networks import app_of_network
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

BRIDGE_ID_DIGITS = 12
LIMIT_S = 60.0
RETRY_S = 60.0

log = get_logger("containers.privateguard")


async def bridges_of_apps(engine: Engine) -> list[str]:
    """The bridges of all app networks. Raises EngineError."""
    networks = await engine.networks()
    return sorted(
        f"br-{network.id[:BRIDGE_ID_DIGITS]}"
        for network in networks
        if app_of_network(network.name) is not None
    )


async def guard_bridges(engine: Engine, firewall: Firewall) -> None:
    """Apply the rules to the networks there are. Raises EngineError, FirewallError."""
    bridges = await bridges_of_apps(engine)
    while True:
        await firewall.guard_private(bridges)
        # of two who apply at a time the later one must not bring back what it read before
        now = await bridges_of_apps(engine)
        if now == bridges:
            return
        bridges = now


class PrivateGuard:
    """Service "private ranges": ready when the rules are applied, or the engine has turned out to be away."""

    name = "private ranges"

    def __init__(
        self,
        settings: MonitorSettings,
        *,
        engine: Engine,
        firewall: Firewall,
        engine_ready: Gate,
        bus: EventBus,
        counters: Counters,
    ) -> None:
        self._interval_s = settings.port_restore_interval_s
        self._engine = engine
        self._firewall = firewall
        self._engine_ready = engine_ready
        self._bus = bus
        self._counters = counters

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Apply them before any container is started, and again until cancelled."""
        with self._bus.subscribe(ENGINE_BACK, buffer=1) as news:
            pause_s = await self._apply() if self._engine_ready.is_open else self._interval_s
            task_status.started()
            while True:
                with trio.move_on_after(pause_s):
                    await news.receive()
                pause_s = await self._apply() if self._engine_ready.is_open else self._interval_s

    async def _apply(self) -> float:
        """Seconds until the next time."""
        try:
            with trio.move_on_after(LIMIT_S):
                # a machine without apps needs no rules, and perhaps has no firewall
                if await bridges_of_apps(self._engine):
                    await guard_bridges(self._engine, self._firewall)
                    self._counters.add("containers.privateguard.applied")
                return self._interval_s
            problem = f"not done within {LIMIT_S:g} s"
        except HostError as error:
            problem = error.one_line()
        self._counters.add("containers.privateguard.failed")
        log.error("private addresses not kept from apps, tried again", problem=problem)
        return RETRY_S
