"""A process of the node on a real engine and a small real disk: lifecycle, host, health, mounts, links."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import diskmachine
import msgspec
import trio
from hostworld import HostWorld, Node

from trionode.containers.docker.engine import open_docker
from trionode.containers.health.linking import Linker
from trionode.containers.health.prunes import Pruner
from trionode.containers.images.http import open_image_registry
from trionode.containers.install.appactions import AppLifecycle
from trionode.containers.machine.linuxfirewall import LinuxFirewall
from trionode.runtime.clock import SystemClock
from trionode.runtime.counters import Counters


@asynccontextmanager
async def real_node(
    engine_url: str, machine: diskmachine.DiskMachine, world: HostWorld, *, keeps_apps: bool = False
) -> AsyncIterator[Node]:
    """Whatever is installed is removed at the end, unless another process is to find it."""
    async with (
        open_docker(engine_url) as docker,
        open_image_registry(max_image_bytes=10**9, token_margin_s=900.0) as registry,
    ):
        life = await world.life()
        firewall, counters, disk = LinuxFirewall(), Counters(), machine.new_disk()
        bench = msgspec.structs.replace(
            life.bench,
            engine=docker,
            disk=disk,
            firewall=firewall,
            images=registry,
            links=Linker(docker, life.installed, counters),
            pruner=Pruner(docker, life.installed, life.records, life.operations, counters),
        )
        actions = AppLifecycle(bench, life.operations)
        life = msgspec.structs.replace(life, actions=actions, bench=bench)
        node = Node(world, life, settled=True, engine=docker, disk=disk, clock=SystemClock())
        try:
            async with node.running():
                yield node
        finally:
            with trio.CancelScope(shield=True):
                if not keeps_apps:
                    for row in life.installed.rows():
                        await actions.remove(row.name, reason="the test has ended", force=True)
                await firewall.unguard()
