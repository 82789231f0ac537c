"""The handle of a node: what it takes for no event, and settings changed between two starts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import trio
from network import Node
from network.http import Answer
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
