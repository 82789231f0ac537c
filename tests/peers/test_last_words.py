"""What a node says before it leaves, and how its links end, whatever its peers do."""

from __future__ import annotations

from typing import Any

import pytest
import trio

pytestmark = pytest.mark.trio

GOODBYE = {"type": "fluxnodesigterm", "version": 1, "ip": "45.1.1.1", "broadcastedAt": 1}
PEERS = 50


async def test_the_last_message_goes_to_all_at_once_and_a_deaf_peer_costs_only_itself(
    autojump_clock: Any, world: Any
) -> None:
    node = await world.start_node("45.1.1.1", peers__min_inbound=PEERS)
    visitors = [await world.visit(node, f"45.{2 + place}.1.1") for place in range(PEERS)]
    await trio.sleep(10)
    for visitor in visitors:
        visitor.received()
    deaf = visitors[7]
    deaf.link.capacity = 0
    begin = trio.current_time()
    envelope = node.service.broadcast_last(dict(GOODBYE))
    with trio.move_on_after(1) as scope:
        await node.service.flushed()
    assert scope.cancelled_caught
    assert trio.current_time() - begin == 1
    for visitor in visitors:
        texts = [message for message in visitor.received() if isinstance(message, str)]
        if visitor is not deaf:
            assert envelope.text in texts

    node.scope.cancel()
    for visitor in visitors:
        await visitor.closed()
    assert trio.current_time() - begin < 4, "the links end, also the one that does not read"


async def test_peers_that_read_are_waited_for(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node("45.1.1.1", peers__min_inbound=PEERS)
    visitors = [await world.visit(node, f"45.{2 + place}.1.1") for place in range(PEERS)]
    await trio.sleep(10)
    for visitor in visitors:
        visitor.received()
    begin = trio.current_time()
    envelope = node.service.broadcast_last(dict(GOODBYE))
    await node.service.flushed()
    assert trio.current_time() - begin < 0.1, "not paced"
    assert all(envelope.text in visitor.received() for visitor in visitors)
