"""One node as an operating-system process: the real seams, the front door, the supervisor.

`run_node` runs until a signal asks for an orderly stop. How the services hang together is decided in
`trionode.node`; here they meet sockets, files and signals.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import trio

from trionode.api.app import create_app
from trionode.api.appdesk import AppDesk
from trionode.api.context import ApiContext
from trionode.api.frontdoor import FrontDoor
from trionode.api.probe import Probe, TcpProbe
from trionode.api.registryports import RegistryParts
from trionode.api.sideports import HOME_OFFSET, side_ports
from trionode.chain.conf import DaemonConf
from trionode.chain.rpc import bench_rpc, daemon_rpc
from trionode.config.paths import data_dir
from trionode.config.tree import Settings
from trionode.hosting.appsnote import NOTE_FILE, AppsNote, refuse_forgotten
from trionode.hosting.beatfile import BEAT_FILE, BeatFile
from trionode.hosting.machine import SystemMachine
from trionode.node import NodeCore, NodeParts
from trionode.peers.ws import WsTransport
from trionode.runtime.clock import SystemClock
from trionode.runtime.foreground import run_until_signalled
from trionode.runtime.lag import LagCanary
from trionode.runtime.logs import get_logger
from trionode.runtime.signals import HARD_EXIT_S, HardExit
from trionode.runtime.supervisor import Supervisor
from trionode.runtime.systemd import ServiceManager
from trionode.store.appregistry_judges import ProcessJudges
from trionode.store.copymark import refuse_unfinished
from trionode.store.faults import with_faults
from trionode.store.open import Stores, apps_in_files, is_mongo, open_stores
from trionode.store.port import StoreServer
from trionode.sync.source import HttpSource
from trionode.wire.keys import NodeKey

WILDCARDS = ("0.0.0.0", "::", "")


def os_uptime_s() -> float:
    """Seconds since the machine started."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


async def run_node(settings: Settings, key: NodeKey, conf: DaemonConf) -> None:
    """Run one node until SIGINT or SIGTERM. `key` signs its messages, `conf` is the daemon's own.

    Raises StartupError (busy port, unwritable folder) and ServiceCrashLoop.
    """
    log = get_logger("node")
    started_s = trio.current_time()
    bind_host = settings.node.bind_host
    source_ip = None if bind_host in WILDCARDS else bind_host
    folder = data_dir(settings)
    async with AsyncExitStack() as stack:
        transport = WsTransport(settings.peers, bind_host=bind_host)
        stores = await stack.enter_async_context(open_stores(settings.store, folder))
        note_path, store_name = folder / NOTE_FILE, _store_name(settings, stores)
        hosts_apps = settings.hosting.engine == "docker"
        await refuse_unfinished(stores.events)
        if hosts_apps and stores.server is not None:
            await refuse_forgotten(
                stores.local, note_path, store_name, before=lambda: _apps_before(settings, folder)
            )
        registry_store = stores.registry
        if settings.api.test_controls:
            registry_store = with_faults(registry_store)
        clock, nodes = SystemClock(), HttpSource(source_ip=source_ip)
        bench = stack.enter_context(bench_rpc(settings.chain, source_ip=source_ip))
        seams = None
        if hosts_apps:
            from trionode.containers.seams import open_seams

            seams = await stack.enter_async_context(
                open_seams(
                    settings,
                    folder=folder,
                    local=stores.local,
                    nodes=nodes,
                    key=key,
                    bench=bench,
                    clock=clock,
                    source_ip=source_ip,
                )
            )
        parts = NodeParts(
            settings=settings,
            key=key,
            clock=clock,
            rng=random.Random(),
            transport=transport,
            daemon=stack.enter_context(daemon_rpc(settings.chain, conf, source_ip=source_ip)),
            bench=bench,
            store=stores.events,
            registry_store=registry_store,
            os_uptime_s=os_uptime_s,
            bulk_source=nodes,
            judges=ProcessJudges,
            has_address_index=_may_have_address_index(conf),
            machine=SystemMachine(settings.system),
            spare_beat=BeatFile(folder / BEAT_FILE),
            containers=seams,
        )
        core = NodeCore(parts)
        if stores.server is not None:
            stores.server.report_to(core.counters, core.bus)
        lag = LagCanary(settings.system, core.counters)
        supervisor = Supervisor(
            core.counters,
            random.Random(),
            grace_s=settings.node.shutdown_grace_s,
            settings=settings.supervisor,
            farewell=lambda reason: farewell(reason),
        )
        hard_exit = HardExit()
        manager = ServiceManager.from_environment(
            os.environ, os.getpid(), status=lambda: _status_line(core, stores.server)
        )

        async def farewell(reason: str) -> None:
            manager.stopping(reason)
            await core.departure.leave(reason, allow_more)

        def allow_more(grace_s: float) -> None:
            left_s = supervisor.extend_grace(grace_s)
            if left_s is not None:
                limit_s = grace_s + HARD_EXIT_S
                hard_exit.arm(left_s + HARD_EXIT_S, f"still running {limit_s:g} s after the signal")
                manager.more_time(left_s + HARD_EXIT_S)

        desk = AppDesk(nodes, core.counters, spacing_s=settings.api.fan_out_spacing_s)
        context = dataclasses.replace(
            _api_context(parts, core, supervisor, lag, TcpProbe(source_ip), started_s, stores.server),
            desk=desk if core.containers is not None else None,
        )
        front_door = FrontDoor(
            settings.api,
            host=bind_host,
            port=settings.node.api_port,
            app=create_app(context),
            transport=transport,
            on_peer=core.peers.handle_inbound,
            counters=core.counters,
            tcp_user_timeout_ms=settings.peers.tcp_user_timeout_ms,
        )
        supervisor.add(manager, essential=False)
        for service in core.services():
            supervisor.add(service, essential=core.is_essential(service))
        supervisor.add(front_door, essential=True)
        if core.containers is not None:
            supervisor.add(desk, essential=False)
            note = AppsNote(note_path, store_name, core.containers.installed.names)
            core.containers.installed.on_change(note.changed)
            supervisor.add(note, essential=False)
        for extra in [*side_ports(settings, core.counters), lag]:
            supervisor.add(extra, essential=False)

        def on_ready() -> None:
            if supervisor.stop_reason is not None:
                return
            # The log's rows live as long as the node; walking them in every full collection would
            # stop the loop for 50 ms and more.
            gc.collect()
            gc.freeze()
            host = f"http://{source_ip or '127.0.0.1'}"
            ready = {"api": f"{host}:{front_door.port}"}
            if settings.api.side_ports:
                ready["home"] = f"{host}:{front_door.port + HOME_OFFSET}"
            manager.ready()
            log.info("ready", **ready, after_s=round(trio.current_time() - started_s, 2))

        log.info("starting", address=bind_host, public_key=key.public_key, data=str(folder))
        await run_until_signalled(supervisor, hard_exit, settings.node.shutdown_grace_s, on_ready)
    log.info("stopped", reason=supervisor.stop_reason)


def _status_line(core: NodeCore, server: StoreServer | None) -> str:
    """How the node is, for the service manager."""
    peers = len(core.peers.table)
    line = f"{core.orchestrator.phase.value}, {peers} peers, height {core.chain.height}"
    away = "" if server is None or server.is_connected else server.document()["problem"]
    return f"{line}, store away: {away}" if away else line


def _store_name(settings: Settings, stores: Stores) -> str:
    """For people: where installed apps are kept."""
    if stores.server is None:
        return "memory"
    shown, prefix = stores.server.document(), settings.store.mongo_prefix
    where = f"{shown['kind']} {shown['server']}"
    return f"{where} (prefix {prefix})" if prefix and is_mongo(settings.store.url) else where


async def _apps_before(settings: Settings, folder: Path) -> Sequence[str]:
    """What versions without a note left in the files, while another store is used."""
    return await apps_in_files(folder) if is_mongo(settings.store.url) else ()


def _may_have_address_index(conf: DaemonConf) -> bool:
    """Without a file to read nothing is known: the explorer asks and sees."""
    return not conf.path or conf.has_address_index


def _api_context(
    parts: NodeParts,
    core: NodeCore,
    supervisor: Supervisor,
    lag: LagCanary,
    probe: Probe,
    started_s: float,
    server: StoreServer | None,
) -> ApiContext:
    return ApiContext(
        settings=parts.settings,
        clock=parts.clock,
        bus=core.bus,
        counters=core.counters,
        log=core.log,
        peers=core.peers,
        chain=core.chain,
        daemon=parts.daemon,
        bench=parts.bench,
        supervisor=supervisor,
        probe=probe,
        # Login phrases must not be guessable.
        rng=random.SystemRandom(),
        dos=core.dos,
        public_key=parts.key.public_key,
        registry=RegistryParts(
            parts.registry_store, core.constants, core.explorer, core.registry, core.orchestrator
        ),
        started_s=started_s,
        os_uptime_s=parts.os_uptime_s,
        lag=lag.stats,
        orchestrator=core.orchestrator,
        boot=core.boot,
        watch=core.watch,
        server=server,
        containers=core.containers,
    )
