"""Starts a local network, shows it, and stops all of it again (`trionode devnet`)."""

from __future__ import annotations

import random
import signal
import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from http.client import HTTPException
from math import inf
from pathlib import Path
from typing import Any

import trio

from trionode.devnet import layout as places
from trionode.devnet.layout import Layout, NodePlace
from trionode.devnet.observe import NodeView, agreed, look
from trionode.devnet.processes import Child, child_process, module_command
from trionode.devnet.registering import ready_node, register_and_pay, specification
from trionode.errors import StartupError, TrionodeError
from trionode.runtime.clock import SystemClock
from trionode.runtime.logs import get_logger
from trionode.wire.keys import NodeKey

READY_WITHIN_S = 60.0
LOOK_EVERY_S = 0.5
NODE_STOP_S = 3.0
STUB_STOP_S = 1.0
BLOCK_INTERVAL_S = 5.0
REGISTERED_APP = "shop"
REGISTER_WITHIN_S = 30.0

log = get_logger("devnet")

Show = Callable[[Layout, list[NodeView], float, bool], None]
"""Called after every look: layout, views, seconds since start, whether all nodes agree."""


class LocalNetwork:
    """A running local network; nodes are found by number."""

    def __init__(self, layout: Layout, starts: trio.MemorySendChannel[tuple[NodePlace, trio.Event]]) -> None:
        self.layout = layout
        self.processes: dict[int, Child] = {}
        self._starts = starts

    async def start(self, *numbers: int) -> None:
        """Start nodes that were held back, or start stopped ones again; their folders are as they were."""
        for number in numbers:
            started = trio.Event()
            await self._starts.send((self.layout.nodes[number - 1], started))
            await started.wait()

    async def stop(self, *numbers: int) -> None:
        """Ask nodes to stop, and wait until they have; `start` starts them again."""
        for number in numbers:
            self.processes[number].terminate()
            await self.processes[number].wait()


@asynccontextmanager
async def local_network(
    folder: Path,
    count: int,
    *,
    offset: int = 0,
    seed: int = 1,
    overrides: Mapping[str, Any] | None = None,
    held_back: Collection[int] = (),
    block_interval_s: float = BLOCK_INTERVAL_S,
) -> AsyncIterator[LocalNetwork]:
    """Write the files, start the chain stand-in and `count` nodes, stop everything at the end.

    Nodes `held_back` wait for `LocalNetwork.start`. Raises StartupError when an address is busy or a
    process does not come up.
    """
    layout = places.plan(folder, count, offset)
    _check_free([(layout.stub_ip, places.DAEMON_PORT), *((n.ip, places.API_PORT) for n in layout.nodes)])
    # Keys of a network on the loopback range guard nothing; a seed makes runs alike.
    places.write(layout, random.Random(seed), overrides)
    command = _stub(layout, block_interval_s)
    async with child_process(command, layout.stub_log, stop_within_s=STUB_STOP_S):
        await _wait_for_port(layout.stub_ip, places.DAEMON_PORT, layout.stub_log)
        async with _nodes(layout) as network:
            await network.start(*(node.number for node in layout.nodes if node.number not in held_back))
            yield network


@asynccontextmanager
async def _nodes(layout: Layout) -> AsyncIterator[LocalNetwork]:
    """Nodes start one by one, as they are asked for, and are stopped together."""
    stop = trio.Event()
    # A start is handed over when it is waited for, so nothing piles up.
    send_start, receive_start = trio.open_memory_channel[tuple[NodePlace, trio.Event]](0)
    network = LocalNetwork(layout, send_start)

    async def keep(node: NodePlace, started: trio.Event) -> None:
        command = module_command("trionode", "--config", str(node.config), "run")
        async with child_process(command, node.log, stop_within_s=NODE_STOP_S) as process:
            network.processes[node.number] = process
            node.pid_file.write_text(f"{process.pid}\n", "ascii")
            started.set()
            await stop.wait()
        node.pid_file.unlink(missing_ok=True)

    async def starter() -> None:
        async with trio.open_nursery() as nursery:
            async for node, started in receive_start:
                nursery.start_soon(keep, node, started)

    for node in layout.nodes:
        node.log.write_bytes(b"")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(starter)
        try:
            yield network
        finally:
            stop.set()
            await send_start.aclose()


def _stub(layout: Layout, block_interval_s: float) -> list[str]:
    return module_command(
        "trionode.sim.stub_server",
        *("--host", layout.stub_ip),
        *("--port", str(places.DAEMON_PORT)),
        *("--bench-port", str(places.BENCH_PORT)),
        *("--control-port", str(places.CONTROL_PORT)),
        *("--nodes", str(layout.node_list)),
        *("--block-interval-ms", str(round(block_interval_s * 1000))),
        "--ticker",
    )


def _check_free(addresses: list[tuple[str, int]]) -> None:
    for ip, port in addresses:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ip, port))
            except OSError as error:
                raise StartupError(
                    f"{ip}:{port} cannot be used: {error.strerror}",
                    remedy="is another local network running? stop it, or choose another --offset",
                ) from error


async def _wait_for_port(ip: str, port: int, log: Path) -> None:
    with trio.move_on_after(READY_WITHIN_S):
        while True:
            try:
                stream = await trio.open_tcp_stream(ip, port)
            except OSError:
                await trio.sleep(0.05)
                continue
            await stream.aclose()
            return
    raise StartupError(f"nothing answers at {ip}:{port}", remedy=f"see {log}")


async def show_until_signal(
    folder: Path,
    count: int,
    *,
    offset: int,
    show: Show,
    started: Callable[[Layout], None],
    until_agreed: bool,
    stop_after_s: float | None,
) -> bool:
    """Run the network until SIGINT/SIGTERM (or agreement, or a time); True when all nodes agreed."""
    ever_agreed = False
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with local_network(folder, count, offset=offset) as network, trio.open_nursery() as nursery:
            started(network.layout)

            async def end_on_signal() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel(reason="signal")
                    return

            nursery.start_soon(end_on_signal)
            nursery.start_soon(_register_an_app, network.layout)
            begin = trio.current_time()
            with trio.move_on_after(stop_after_s if stop_after_s is not None else inf):
                while not (until_agreed and ever_agreed):
                    views = await look(network.layout)
                    now_agree = agreed(network.layout, views)
                    ever_agreed = ever_agreed or now_agree
                    show(network.layout, views, trio.current_time() - begin, now_agree)
                    await trio.sleep(LOOK_EVERY_S)
            nursery.cancel_scope.cancel(reason="finished")
    return ever_agreed


async def _register_an_app(layout: Layout) -> None:
    """Register and pay for one app at the first node that is ready, so that there is one to look at.

    What goes wrong is told and left: the network is worth looking at without it.
    """
    owner = NodeKey.generate(random.Random("owner of the local network"), compressed=True)
    spec = specification(REGISTERED_APP, owner.address)

    def attempt() -> bool:
        place = ready_node(layout)
        if place is None:
            return False
        register_and_pay(place, layout, spec, owner, SystemClock().now_ms())
        return True

    problem: Exception | None = None
    with trio.move_on_after(REGISTER_WITHIN_S):
        while True:
            try:
                if await trio.to_thread.run_sync(attempt, abandon_on_cancel=True):
                    return
            except (OSError, HTTPException, ValueError, KeyError, TrionodeError) as error:
                problem = error
            await trio.sleep(LOOK_EVERY_S)
    log.warning("no app could be registered", app=REGISTERED_APP, problem=str(problem))
