"""An observer as an operating-system process: real sockets and files, the front door, the supervisor.

It listens for HTTP only: whoever dials it as a peer is refused as by a node that is not confirmed.
"""

from __future__ import annotations

import dataclasses
import gc
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from trionode.api.app import create_app
from trionode.api.context import ApiContext
from trionode.api.frontdoor import FrontDoor
from trionode.api.probe import TcpProbe
from trionode.api.registryports import RegistryParts
from trionode.config.tree import Settings
from trionode.observer.core import ObserverCore, ObserverParts
from trionode.observer.routes import observer_routes
from trionode.peers.ws import WsTransport
from trionode.registry.constants import Constants
from trionode.runtime.clock import SystemClock
from trionode.runtime.dosstate import DosState
from trionode.runtime.foreground import run_until_signalled
from trionode.runtime.lag import LagCanary
from trionode.runtime.logs import get_logger
from trionode.runtime.signals import HardExit
from trionode.runtime.supervisor import Supervisor
from trionode.store.open import open_event_store
from trionode.sync.source import HttpSource

WILDCARDS = ("0.0.0.0", "::", "")


async def run_observer(settings: Settings, seeds: Sequence[str], folder: Path) -> None:
    """Observe until SIGINT or SIGTERM; `folder` takes the event log.

    Raises ConfigError (a seed that is none), StartupError (busy port) and ServiceCrashLoop.
    """
    log = get_logger("observer")
    started_s = trio.current_time()
    bind_host = settings.node.bind_host
    source_ip = None if bind_host in WILDCARDS else bind_host
    async with AsyncExitStack() as stack:
        transport = WsTransport(settings.peers, bind_host=bind_host)
        kept = await stack.enter_async_context(open_event_store(settings.store, folder))
        core = ObserverCore(
            ObserverParts(
                settings=settings,
                seeds=seeds,
                clock=SystemClock(),
                rng=random.Random(),
                transport=transport,
                http=HttpSource(source_ip=source_ip),
                store=kept.events,
            )
        )
        if kept.server is not None:
            kept.server.report_to(core.counters, core.bus)
        lag = LagCanary(settings.system, core.counters)
        grace_s = settings.node.shutdown_grace_s
        supervisor = Supervisor(core.counters, random.Random(), grace_s=grace_s, settings=settings.supervisor)
        context = dataclasses.replace(
            _api_context(core, supervisor, lag, source_ip, started_s), server=kept.server
        )
        front_door = FrontDoor(
            settings.api,
            host=bind_host,
            port=settings.node.api_port,
            app=create_app(context, observer_routes(knows_specs=lambda: core.specs.agreed_s is not None)),
            transport=transport,
            on_peer=core.peers.handle_inbound,
            counters=core.counters,
            tcp_user_timeout_ms=settings.peers.tcp_user_timeout_ms,
        )
        for service in [*core.services(), front_door]:
            supervisor.add(service, essential=True)
        supervisor.add(lag, essential=False)

        def on_ready() -> None:
            gc.collect()
            gc.freeze()
            log.info("ready", api=f"http://{source_ip or '127.0.0.1'}:{front_door.port}")

        log.info("observing", seeds=", ".join(seeds), data=str(folder))
        await run_until_signalled(supervisor, HardExit(), grace_s, on_ready)
    log.info("stopped", reason=supervisor.stop_reason)


def _api_context(
    core: ObserverCore, supervisor: Supervisor, lag: LagCanary, source_ip: str | None, started_s: float
) -> ApiContext:
    settings = core.settings
    return ApiContext(
        settings=settings,
        clock=SystemClock(),
        bus=core.bus,
        counters=core.counters,
        log=core.log,
        peers=core.peers,
        chain=core.facts,
        daemon=core.daemon,
        bench=core.daemon,
        supervisor=supervisor,
        probe=TcpProbe(source_ip),
        rng=random.SystemRandom(),
        dos=DosState(core.bus),
        public_key="",
        registry=RegistryParts(
            core.registry_store, Constants(settings.registry, settings.economy, settings.explorer)
        ),
        started_s=started_s,
        os_uptime_s=lambda: time.clock_gettime(time.CLOCK_MONOTONIC),
        lag=lag.stats,
        observer=core.report,
    )
