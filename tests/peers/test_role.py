"""A listener: links outward, asks for announced messages, and says nothing else whatever comes."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trionode.errors import PeerError
from trionode.peers.link import CAPABILITIES, Hello
from trionode.peers.role import MEMBER, listener
from trionode.wire.frames import (
    HashPresent,
    HashRequest,
    Nak,
    PeerExchange,
    SyncRequest,
    decode_frame,
    encode_frame,
)

pytestmark = pytest.mark.trio

OLD_HEIGHT = 1_000_000
NODE_IPS = [f"198.{number}.0.1" for number in range(1, 11)]


def sent_by(node: Any) -> int:
    """How many messages a node has had from its peers."""
    return sum(row["messagesReceived"] for row in node.service.rows())


async def listening(world: Any, *, links: int = 4, nodes: int = 10) -> tuple[Any, list[Any]]:
    keys = [world.key() for _ in range(nodes)]
    world.list_nodes(*zip(NODE_IPS, keys, strict=False))
    members = [await world.start_node(ip, key=key) for ip, key in zip(NODE_IPS, keys, strict=False)]
    made = await world.start_listener(links)
    await trio.sleep(30)
    return made, members


async def test_it_holds_at_most_its_links_and_comes_back_to_them(autojump_clock: Any, world: Any) -> None:
    made, _ = await listening(world)
    assert (made.service.table.outbound, made.service.table.inbound) == (4, 0)
    for peer in made.service.table.peers()[:2]:
        peer.link.terminate()
    await trio.sleep(3600)
    assert made.service.table.outbound == 4
    assert made.transport.invites == []


async def test_slow_dials_do_not_add_up_to_more_links(autojump_clock: Any, world: Any) -> None:
    made, members = await listening(world, links=2)
    inbound = sum(member.service.table.inbound for member in members)
    assert inbound == made.service.table.outbound == 2
    assert len(made.transport.dials) == 2


async def test_it_tells_no_capability_that_makes_others_expect_something(
    autojump_clock: Any, world: Any
) -> None:
    made, _ = await listening(world)
    assert all(
        hello.capabilities == {"transmissionTimestamps", "binaryMessages"} and not hello.reconnect
        for hello in made.transport.hellos
    )


async def test_it_asks_for_an_announced_message_and_passes_nothing_on(
    autojump_clock: Any, world: Any
) -> None:
    made, members = await listening(world)
    linked = [member for member in members if member.service.table.inbound]
    author = members[0]
    envelope = world.running(NODE_IPS[0], author.key)
    linked[0].service.gossip.own(envelope)
    linked[1].service.broadcaster.announce(envelope.data_hash, None)
    linked[1].service.gossip._cache.put(envelope.data_hash, envelope, trio.current_time())
    await trio.sleep(10)
    assert [taken.data_hash for taken in made.log.taken] == [envelope.data_hash]
    assert sum(sent_by(member) for member in linked) <= 1


@pytest.mark.parametrize("height", [OLD_HEIGHT, 2_000_000])
async def test_it_is_silent_whatever_comes(autojump_clock: Any, world: Any, height: int) -> None:
    made, members = await listening(world)
    made.facts.height = height
    linked = [member for member in members if member.service.table.inbound]
    stale = world.running(NODE_IPS[0], members[0].key, at_ms=world.clock.now_ms() - 299_000)
    for member in linked:
        (peer,) = member.service.table.peers("inbound")
        fresh = world.running(member.ip, member.key)
        for text in (fresh.text, stale.text):
            member.service.send_text(peer, text)
        for frame in (
            HashRequest(fresh.data_hash),
            Nak(fresh.data_hash, 1),
            PeerExchange(outbound=("198.1.0.1:16127",)),
            SyncRequest(0x21, 0, world.clock.now_ms(), members[0].key.public_key, "A" * 88),
        ):
            member.service.send_frame(peer, frame)
    await trio.sleep(30)
    assert len(made.log.taken) >= len(linked)
    assert [sent_by(member) for member in linked] == [0] * len(linked)


async def test_it_takes_no_links(autojump_clock: Any, world: Any) -> None:
    made, _ = await listening(world, nodes=1)
    visitor = await world.visit(made, "198.99.0.1")
    await visitor.closed()
    assert (visitor.code, visitor.reason) == (4019, "node not confirmed")


async def test_without_a_key_nothing_can_be_signed(autojump_clock: Any, world: Any) -> None:
    made, _ = await listening(world, nodes=1)
    with pytest.raises(PeerError, match="signs nothing"):
        made.service.broadcast_own({"type": "fluxapprunning"})


async def test_a_member_is_what_it_was(autojump_clock: Any, world: Any) -> None:
    node = await world.start_node()
    assert node.service.links.hello() == Hello(frozenset(CAPABILITIES), "8.13.1", 0)
    assert MEMBER.may_send(None)
    assert MEMBER.has_room(1000)
    assert not listener(4).may_send(None)
    assert not listener(4).may_send(HashPresent("ab" * 20))
    assert listener(4).may_send(HashRequest("ab" * 20))
    assert decode_frame(encode_frame(HashRequest("ab" * 20))) == HashRequest("ab" * 20)
