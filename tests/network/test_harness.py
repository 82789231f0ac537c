"""The handle of a node: what it takes for no event, and settings changed between two starts."""

from __future__ import annotations

import gc
import json
import random
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from network import Node
from network.events import EventReader
from network.http import Answer, Caller, Unanswered
from network.node import NodeProcess

from trionode.config.load import load
from trionode.devnet import layout as places


class StatusCaller:
    """Answers every request with a status that names the newest event."""

    def __init__(self) -> None:
        self.last_id = 0

    async def ask(self, *_: Any, **__: Any) -> Answer:
        data = {"events": {"lastId": self.last_id}}
        return Answer(200, json.dumps({"status": "success", "data": data}).encode())


@pytest.fixture
def caller() -> StatusCaller:
    return StatusCaller()


@pytest.fixture
def node(tmp_path: Path, caller: StatusCaller) -> Node:
    layout = places.plan(tmp_path, 1, 0)
    places.write(layout, random.Random(1))
    return Node(NodeProcess(layout.nodes[0], None), caller)


def read(node: Node, number: int, name: str) -> None:
    node.reader._take(f"id: {number}\nevent: {name}\ndata: {{}}")


@pytest.mark.trio
async def test_an_event_that_is_read_late_is_no_absence(
    autojump_clock: Any, node: Node, caller: StatusCaller
) -> None:
    caller.last_id = 1
    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="unexpected")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: node.no_event("peers:added", after=0, for_s=1))
            await trio.sleep(5)
            read(node, 1, "peers:added")


@pytest.mark.trio
async def test_other_events_and_earlier_ones_are(
    autojump_clock: Any, node: Node, caller: StatusCaller
) -> None:
    caller.last_id = 2
    read(node, 1, "peers:added")
    read(node, 2, "peers:removed")
    await node.no_event("peers:added", after=1, for_s=1)
    with pytest.raises(AssertionError, match="unexpected"):
        await node.no_event("peers:added", after=0, for_s=1)


def test_settings_of_the_next_start(node: Node) -> None:
    before = load([node.place.config], {}, {}).settings
    assert before.system.boot_sync_timeout_s != 6.0
    node.set_up({"system.boot_sync_timeout_s": 6.0, "log.level": "debug"})
    after = load([node.place.config], {}, {}).settings
    assert (after.system.boot_sync_timeout_s, after.log.level) == (6.0, "debug")
    assert (after.node, after.chain, after.peers) == (before.node, before.chain, before.peers)


class StreamCaller:
    """Every stream gives the chunks of the channel; remembers what each was asked to begin behind."""

    def __init__(self) -> None:
        self.send, self._chunks = trio.open_memory_channel[bytes](10)
        self.begun_behind: list[str] = []

    @asynccontextmanager
    async def streamed(
        self, *_: Any, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        self.begun_behind.append(headers["Last-Event-ID"])
        yield 200, self._chunks


@pytest.mark.trio
async def test_what_was_on_its_way_when_a_node_was_started_again_is_not_of_its_new_run() -> None:
    caller = StreamCaller()
    reader = EventReader(caller, "127.0.0.1", 0)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        await trio.testing.wait_all_tasks_blocked()
        caller.send.send_nowait(b"id: 57\nevent: daemon:polled\ndata: {}\n\n")
        reader.restart()
        await trio.testing.wait_all_tasks_blocked()
        assert (reader.recent, caller.begun_behind) == ([], ["0", "0"])
        caller.send.send_nowait(b"id: 1\nevent: orchestrator:started\ndata: {}\n\n")
        assert (await reader.event("orchestrator:started", after=0)).id == 1
        nursery.cancel_scope.cancel()


@pytest.mark.process
@pytest.mark.trio
async def test_a_stream_that_is_refused_leaves_nothing_unfinished() -> None:
    """What is left unfinished is told as a warning, in whatever test runs when it is collected."""

    async def refuse(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(10_000)
            await stream.send_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
        reader = EventReader(Caller(None), "127.0.0.1", listeners[0].socket.getsockname()[1])
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            with pytest.raises(Unanswered, match="503"):
                await reader._read()
            gc.collect()
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [str(warning.message) for warning in told] == []
