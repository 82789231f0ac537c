"""State sync between two nodes on real sockets and real stores (wire.md §11)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from statesyncworld import Node, settings_with

from trionode.peers.ws import WsTransport
from trionode.peers.wsstream import read_head
from trionode.runtime.clock import SystemClock
from trionode.store.sqlite import open_sqlite
from trionode.wire.envelope import Envelope, seal
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeEntry, NodeList

pytestmark = [pytest.mark.trio, pytest.mark.process]

OLD, LATE = "127.81.0.1", "127.81.0.2"
ADDRESSES = 2_600
"""Enough for several answers, and for a file store that reads page by page."""


def announcement(ip: str, key: NodeKey, now_ms: int) -> Envelope:
    apps = [{"name": f"app{n}ü", "hash": n * 64, "runningSince": "2025-10-01T00:00:00.000Z"} for n in "123"]
    data = {"type": "fluxapprunning", "version": 2, "apps": apps, "ip": ip, "broadcastedAt": now_ms}
    return seal(data | {"osUptime": 1234.56, "staticIp": False}, key, now_ms)


async def listen(
    ip: str,
    transport: WsTransport,
    handle: Callable[..., Awaitable[None]],
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    async def accept(stream: trio.SocketStream) -> None:
        async with stream:
            head, rest = await read_head(stream, 16384)
            await handle(transport.inbound(stream, head, rest))

    listeners = await trio.open_tcp_listeners(16127, host=ip)
    task_status.started()
    await trio.serve_listeners(accept, listeners)


@asynccontextmanager
async def two_nodes(folder: Path) -> AsyncIterator[tuple[Node, Node, dict[str, NodeKey]]]:
    rng = random.Random(3)
    some = [NodeKey.generate(rng) for _ in range(20)]
    keys = {f"30.{n >> 8}.{n & 255}.1": some[n % 20] for n in range(ADDRESSES)} | {
        OLD: some[0],
        LATE: some[1],
    }
    nodes = NodeList([NodeEntry(ip=ip, pubkey=key.public_key) for ip, key in keys.items()])
    settings = settings_with(network__allow_private_addresses=True)
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        made = []
        for ip in (OLD, LATE):
            store = await stack.enter_async_context(open_sqlite(folder / f"{ip}.sqlite"))
            transport = WsTransport(settings.peers, bind_host=ip)
            node = Node(
                ip, settings, key=keys[ip], nodes=nodes, store=store, clock=SystemClock(), transport=transport
            )
            await nursery.start(node.run, partial(listen, ip, transport))
            made.append(node)
        yield made[0], made[1], keys
        nursery.cancel_scope.cancel()


async def test_a_late_node_gets_everything_over_a_socket(tmp_path: Path) -> None:
    with trio.fail_after(250):
        async with two_nodes(tmp_path) as (old, late, keys):
            now_ms = old.clock.now_ms()
            async with trio.open_nursery() as nursery:
                for ip, key in keys.items():
                    nursery.start_soon(old.log.ingest, announcement(ip, key, now_ms))
            await old.log.evict("30.99.0.1")
            complete, linked = trio.Event(), trio.Event()
            late.sync.on_done(lambda kind, _: complete.set() if len(late.done) == 3 else None)
            late.peers.table.on_change(lambda event, peer: linked.set())
            late.peers.add_outgoing(OLD, 16127)
            await linked.wait()
            assert await late.sync.request(late.sync.eligible()) == (f"{OLD}:16127",)
            await complete.wait()
            assert len(late.places()) == 3 * len(keys)
            assert late.places() == old.places()
            assert await late.store.counts() == await old.store.counts()
            assert late.refused() == old.refused() == {}
            chunks = late.told("sync:chunkVerified")
            assert len(chunks) > 1
            assert sum(chunk["stored"] for chunk in chunks) == len(keys)
            for ip in list(keys)[:50]:
                ours = await late.store.event(ip, "apprunning", "v2")
                theirs = await old.store.event(ip, "apprunning", "v2")
                assert ours is not None
                assert theirs is not None
                assert (ours.data_text, ours.signed) == (theirs.data_text, theirs.signed)
